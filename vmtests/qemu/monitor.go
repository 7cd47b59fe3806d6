package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// monitorTimeout bounds one exchange with QEMU's monitor.
const monitorTimeout = 30 * time.Second

// monitor speaks QMP, QEMU's control protocol.
type monitor struct {
	mu   sync.Mutex
	conn *net.UnixConn
	dec  *json.Decoder
	open bool            // the greeting has been exchanged
	seen map[string]bool // events that came while something else was waited for
}

func newMonitor(conn *net.UnixConn) *monitor {
	return &monitor{conn: conn, dec: json.NewDecoder(conn), seen: map[string]bool{}}
}

// call runs a command and reads its result into result, unless that is nil. A file is sent along
// when it is not nil.
func (m *monitor) call(command string, args any, file *os.File, result any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.conn.SetDeadline(time.Now().Add(monitorTimeout)); err != nil {
		return fmt.Errorf("call QEMU: %w", err)
	}
	if !m.open {
		var greeting struct{ QMP *struct{} }
		if err := m.dec.Decode(&greeting); err != nil || greeting.QMP == nil {
			return fmt.Errorf("greet QEMU: %w", errors.Join(err, errors.New("no greeting")))
		}
		if err := m.exchange("qmp_capabilities", nil, nil, nil); err != nil {
			return err
		}
		m.open = true
	}
	return m.exchange(command, args, file, result)
}

// reply is anything that QEMU says.
type reply struct {
	Return json.RawMessage
	Error  *struct{ Desc string }
	Event  string
}

// await waits until an event has come, now or before.
func (m *monitor) await(event string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.conn.SetDeadline(time.Now().Add(monitorTimeout)); err != nil {
		return fmt.Errorf("await QEMU's event %s: %w", event, err)
	}
	for !m.seen[event] {
		var r reply
		if err := m.dec.Decode(&r); err != nil {
			return fmt.Errorf("await QEMU's event %s: %w", event, err)
		}
		m.seen[r.Event] = true
	}
	return nil
}

func (m *monitor) exchange(command string, args any, file *os.File, result any) error {
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("call QEMU's %s: %w", command, err)
	}
	var rights []byte
	if file != nil {
		rights = syscall.UnixRights(int(file.Fd()))
	}
	if _, _, err := m.conn.WriteMsgUnix(append(data, '\n'), rights, nil); err != nil {
		return fmt.Errorf("call QEMU's %s: %w", command, err)
	}
	for {
		var r reply
		if err := m.dec.Decode(&r); err != nil {
			return fmt.Errorf("hear from QEMU about %s: %w", command, err)
		}
		switch {
		case r.Event != "":
			m.seen[r.Event] = true
		case r.Error != nil:
			return fmt.Errorf("call QEMU's %s: %s", command, r.Error.Desc)
		case result != nil:
			return json.Unmarshal(r.Return, result)
		default:
			return nil
		}
	}
}
