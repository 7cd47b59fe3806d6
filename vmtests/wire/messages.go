package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
)

// What a guest says.
const (
	TypeHello  Type = 'H' // Hello: the kernel has booted as far as PID 1
	TypeReady  Type = 'R' // Ready: waiting for orders; the moment of the snapshot
	TypeAck    Type = 'A' // no body: a part of the orders has arrived
	TypeStart  Type = 'S' // Start
	TypeBeat   Type = 'B' // Beat
	TypeEnd    Type = 'E' // End
	TypeLate   Type = 'L' // Late
	TypeBye    Type = 'Y' // Bye
	TypeDied   Type = 'D' // Died
	TypeOutput Type = 'o' // Output
	TypePrompt Type = 'p' // Prompt
	TypeCount  Type = 'N' // Count
)

// What the host says.
const (
	TypeOrders Type = 'O' // part: Orders come in parts
	TypeCancel Type = 'C' // Cancel
	TypeInput  Type = 'i' // Input
)

// Hello is the first sign of life of a guest.
type Hello struct {
	Release string `json:"release"` // uname -r
}

// Ready tells that a guest is waiting for orders.
type Ready struct {
	Release string   `json:"release"`
	Modules []string `json:"modules,omitempty"` // loaded
	Absent  []string `json:"absent,omitempty"`  // wanted, but not there for this kernel
	// Verified is how many instructions the verifier walked, for each program of the datapath.
	Verified map[string]int `json:"verified,omitempty"`
	// Memory is how many bytes each map takes; LoadMs how long loading took, in milliseconds.
	Memory map[string]uint64 `json:"memory,omitempty"`
	LoadMs int64             `json:"load_ms,omitempty"`
	UpMs   int64             `json:"up_ms"`           // time since the kernel started, by its own clock
	Error  string            `json:"error,omitempty"` // why the guest cannot run scenarios
}

// Orders are what a guest has to do: run scenarios, count instructions, or serve a shell.
type Orders struct {
	Jobs   []runner.Job `json:"jobs,omitempty"`
	Faults bool         `json:"faults,omitempty"` // jobs named fault/... are the harness's own
	Shell  bool         `json:"shell,omitempty"`  // Jobs[0], if any, is the scenario to build
	// Instruction is how long one takes by the guest's clock, in ns. Not 0: they are to be counted.
	Instruction float64   `json:"instruction,omitempty"`
	Now         time.Time `json:"now"` // the host's clock
}

// Start tells that scenario number Index of the orders begins.
type Start struct {
	Index int `json:"index"`
}

// Cancel tells the guest to give up scenario number Index, if it still runs.
type Cancel struct {
	Index int `json:"index"`
}

// Marker is the line that a guest prints on its console when scenario number index begins, so
// that what follows can be told from what came before.
func Marker(index int) string { return fmt.Sprintf("weir: scenario %d starts", index) }

// Beat tells that a guest is alive, and how much it has worked.
type Beat struct {
	BusyMs int64 `json:"busy_ms"` // CPU time used by anything, since the kernel started
}

// End is the record of one scenario.
type End struct {
	Index    int             `json:"index"`
	Scenario result.Scenario `json:"scenario"`
	Kernel   []string        `json:"kernel,omitempty"` // what the kernel logged meanwhile
}

// Late is what the kernel logged after the record of a scenario was sent, before the next began.
type Late struct {
	Index  int      `json:"index"`
	Kernel []string `json:"kernel"`
}

// Bye is the last word of a guest that has carried out its orders.
type Bye struct {
	Planned  int `json:"planned"`
	Recorded int `json:"recorded"`
}

// Died is sent by PID 1 in the name of the process that ran the scenarios.
type Died struct {
	How    string   `json:"how"`              // exit status 3, signal 9, ...
	Stderr string   `json:"stderr,omitempty"` // the end of what it said
	Kernel []string `json:"kernel,omitempty"` // the end of what the kernel logged
}

// Count is how many instructions a packet costs, by kind of packet.
type Count struct {
	Instructions map[string]float64 `json:"instructions,omitempty"`
	Error        string             `json:"error,omitempty"` // why they could not be counted
}

// Output is text for the terminal of a shell.
type Output struct {
	Text string `json:"text"`
}

// Prompt tells that a shell waits for a line.
type Prompt struct {
	Text string `json:"text"`
}

// Input is a line typed into a shell, or an interrupt.
type Input struct {
	Line      string `json:"line,omitempty"`
	Interrupt bool   `json:"interrupt,omitempty"`
}

// part is a piece of orders.
type part struct {
	Data []byte `json:"data"`
	More bool   `json:"more,omitempty"`
}

// Pack encodes and compresses orders.
func (o Orders) Pack() ([]byte, error) {
	plain, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode orders: %w", err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		return nil, fmt.Errorf("compress orders: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress orders: %w", err)
	}
	return packed.Bytes(), nil
}

// UnpackOrders is the reverse of Pack.
func UnpackOrders(packed []byte) (o Orders, err error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return o, fmt.Errorf("decompress orders: %w", err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		return o, fmt.Errorf("decompress orders: %w", err)
	}
	if err := json.Unmarshal(plain, &o); err != nil {
		return o, fmt.Errorf("decode orders: %w", err)
	}
	return o, nil
}

// partSize bounds a piece of orders, in bytes before encoding. A guest's serial driver buffers
// 64 KiB and drops what comes beyond, so the host must not send more than that unasked.
const partSize = 24 << 10

// SendOrders sends orders to a guest: compressed, in parts, each after ack was called, which has
// to wait for the guest's TypeAck of the part before.
func SendOrders(w *Writer, o Orders, ack func() error) error {
	data, err := o.Pack()
	if err != nil {
		return err
	}
	packed := bytes.NewBuffer(data)
	for {
		p := part{Data: packed.Next(partSize), More: packed.Len() > 0}
		if err := w.Send(TypeOrders, p); err != nil {
			return err
		}
		if err := ack(); err != nil {
			return fmt.Errorf("hand over orders: %w", err)
		}
		if !p.More {
			return nil
		}
	}
}

// ReceiveOrders is the guest's side of SendOrders. It returns io.EOF when the line ends first.
func ReceiveOrders(r *Reader, w *Writer) (Orders, error) {
	var packed bytes.Buffer
	for {
		f, err := r.Next()
		if err != nil {
			return Orders{}, err
		}
		if f.Type != TypeOrders {
			return Orders{}, fmt.Errorf("receive orders: frame of type %q came instead", f.Type)
		}
		var p part
		if err := f.Decode(&p); err != nil {
			return Orders{}, err
		}
		packed.Write(p.Data)
		if err := w.Send(TypeAck, nil); err != nil {
			return Orders{}, err
		}
		if !p.More {
			return UnpackOrders(packed.Bytes())
		}
	}
}
