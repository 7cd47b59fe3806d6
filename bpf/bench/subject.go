package bench

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf"
)

// subject is a program that packets are sent through.
type subject struct {
	program  *ebpf.Program
	kind     ebpf.AttachType
	tables   []*ebpf.Map     // hash maps, which fill with flows
	standing map[string]bool // keys in them that are no flows
	drain    func() error    // reads what was handed to user space; may be nil
	forget   func() error    // forgets what is kept of flows beside the tables; may be nil
	emptied  func() error    // is told that the tables were emptied; may be nil
	close    func() error
}

// loadEmpty loads a program that lets every packet pass. What it costs is the test run's.
func loadEmpty() (*subject, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_empty", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("load the empty program: %w", err)
	}
	return &subject{program: p, close: p.Close}, nil
}

// loadInsertion loads a program that does nothing but insert an entry into our table for each packet:
// what a datapath with such a table cannot go below.
func loadInsertion(table int) (*subject, error) {
	s, err := loadOurs(table, nil)
	if err != nil {
		return nil, err
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_insert", Type: ebpf.SchedCLS, AttachType: s.kind, License: "Dual BSD/GPL",
		Instructions: insertion(tcp4(syn), s.tables[0]),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load the program that inserts: %w", err), s.close())
	}
	ours := s.close
	s.program, s.close = p, func() error { return errors.Join(p.Close(), ours()) }
	return s, nil
}

// BPF_NOEXIST of linux/bpf.h.
const noExist = 1

// insertion puts an entry of zeros into a table, under a key of the packet's source address and port.
func insertion(p packet, table *ebpf.Map) asm.Instructions {
	key := -int16(table.KeySize()+7) &^ 7
	value := key - int16(table.ValueSize()+7)&^7
	all := asm.Instructions{asm.Mov.Imm(asm.R0, 0)}
	for at := value; at < 0; at += 8 {
		all = append(all, asm.StoreMem(asm.RFP, at, asm.R0, asm.DWord))
	}
	return append(all,
		asm.LoadMem(asm.R2, asm.R1, skbData, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(p.port)+2),
		asm.JGT.Reg(asm.R4, asm.R3, "out"),
		asm.LoadMem(asm.R4, asm.R2, int16(p.source), asm.Word),
		asm.StoreMem(asm.RFP, key, asm.R4, asm.Word),
		asm.LoadMem(asm.R4, asm.R2, int16(p.port), asm.Half),
		asm.StoreMem(asm.RFP, key+4, asm.R4, asm.Half),

		asm.LoadMapPtr(asm.R1, table.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(value)),
		asm.Mov.Imm(asm.R4, noExist),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	)
}

// overflowRing is the size of the ring buffer in bytes where one round's events have to fit in.
const overflowRing = 64 << 20

// loadOurs loads the datapath as the agent does by default, but that it rejects when the table is full, and the stub of one hook.
func loadOurs(table int, alter func(*bpf.Options)) (*subject, error) {
	c := agent.DefaultConfig()
	opts, err := c.DatapathOptions()
	if err != nil {
		return nil, err
	}
	opts.Table, opts.Overflow = table, false
	if alter != nil {
		alter(&opts)
	}
	d, err := bpf.Load(opts)
	if err != nil {
		return nil, err
	}
	stub, err := d.Stub(bpf.Hook{Interface: 1})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	v4, v6 := d.Tables()
	tables := []*ebpf.Map{v4, v6}
	fixed, err := standing(tables)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	drain := func() error {
		return errors.Join(d.Events(func(*bpf.Event) error { return nil }), d.ReleaseEvents())
	}
	return &subject{program: stub, tables: tables, standing: fixed, drain: drain,
		forget: d.ClearSlots, emptied: d.Recheck, close: d.Close}, nil
}

// empty deletes all flows.
func (s *subject) empty() error {
	if s.forget != nil {
		if err := s.forget(); err != nil {
			return err
		}
	}
	for _, m := range s.tables {
		// All keys come first: deleting while walking restarts the walk at every step.
		all, err := s.flows(m)
		if err != nil {
			return err
		}
		for _, k := range all {
			if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("empty %v: %w", m, err)
			}
		}
	}
	if s.emptied == nil {
		return nil
	}
	return s.emptied()
}

// standing returns the keys of what is in tables that no packet has come to yet: it is no flow.
func standing(tables []*ebpf.Map) (map[string]bool, error) {
	found := map[string]bool{}
	for _, m := range tables {
		all, err := keys(m)
		if err != nil {
			return nil, err
		}
		for _, k := range all {
			found[string(k)] = true
		}
	}
	return found, nil
}

// flows returns the keys of the flows in a table.
func (s *subject) flows(m *ebpf.Map) ([][]byte, error) {
	all, err := keys(m)
	return slices.DeleteFunc(all, func(k []byte) bool { return s.standing[string(k)] }), err
}

func keys(m *ebpf.Map) ([][]byte, error) {
	var all [][]byte
	var key any // nil asks for the first one
	for {
		next, err := m.NextKeyBytes(key)
		if err != nil {
			return nil, fmt.Errorf("walk %v: %w", m, err)
		}
		if next == nil {
			return all, nil
		}
		all = append(all, next)
		key = next
	}
}

// held is how many entries the fullest table holds.
func (s *subject) held() (int, error) {
	most := 0
	for _, m := range s.tables {
		all, err := s.flows(m)
		if err != nil {
			return 0, err
		}
		most = max(most, len(all))
	}
	return most, nil
}

// memory is what the kernel has allocated for the tables that hold flows, and how many entries
// the fullest of them holds.
func (s *subject) memory() (bytes uint64, entries int, err error) {
	for _, m := range s.tables {
		all, err := s.flows(m)
		if err != nil {
			return 0, 0, err
		}
		if len(all) == 0 {
			continue
		}
		info, err := m.Info()
		if err != nil {
			return 0, 0, fmt.Errorf("ask about %v: %w", m, err)
		}
		lock, ok := info.Memlock()
		if !ok {
			return 0, 0, errors.New("the kernel does not tell a map's memory")
		}
		bytes += lock
		entries = max(entries, len(all))
	}
	return bytes, entries, nil
}
