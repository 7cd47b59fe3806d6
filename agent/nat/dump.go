package nat

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Connection is a connection as the kernel tracks it.
type Connection struct {
	Tuple [2]Tuple // by Side
	Zone  uint16   // the kernel's, not the agent's
	// Replied tells whether the responder has sent a packet.
	Replied bool
	TCP     TCPState // TCPNone: the protocol is another one
	// Original is what the initiator has sent, Reply what the responder has; both are zero unless
	// net.netfilter.nf_conntrack_acct was 1 when the connection began.
	Original, Reply Count
}

// Count is packets, and the bytes of their IP headers and what they carry.
type Count struct{ Packets, Bytes uint64 }

// Plus adds two counts.
func (c Count) Plus(o Count) Count { return Count{c.Packets + o.Packets, c.Bytes + o.Bytes} }

// TCPState is the kernel's state of a TCP connection (enum tcp_conntrack of
// linux/netfilter/nf_conntrack_tcp.h).
type TCPState uint8

// The states.
const (
	TCPNone TCPState = iota
	TCPSynSent
	TCPSynRecv
	TCPEstablished
	TCPFinWait
	TCPCloseWait
	TCPLastAck
	TCPTimeWait
	TCPClose
	TCPSynSent2
	tcpStates
)

var tcpStateNames = [tcpStates]string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT",
	"CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

// String is the state's name as conntrack(8) writes it.
func (s TCPState) String() string {
	if s < tcpStates {
		return tcpStateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Dump lists what the kernel tracks in the calling thread's network namespace. The error says why the
// kernel cannot tell.
func Dump() ([]Connection, error) {
	sock, err := open()
	if err != nil {
		return nil, err
	}
	all, err := dump(sock)
	return all, errors.Join(err, sock.close())
}

func dump(sock *socket) (all []Connection, err error) {
	const seq = 1
	if err := errors.Join(sock.within(patience), sock.request(typeGet, unix.NLM_F_DUMP, seq)); err != nil {
		return nil, err
	}
	done := false
	for !done && err == nil {
		err = sock.receive(func(m *syscall.NetlinkMessage) error {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				done = true
			case unix.NLMSG_ERROR:
				return answer(m)
			case typeNew:
				c, err := decode(m.Data)
				if err != nil {
					return err
				}
				all = append(all, Connection{Tuple: c.tuple, Zone: c.zone, Replied: c.replied, TCP: c.tcp,
					Original: c.counts[0], Reply: c.counts[1]})
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list what the kernel tracks: %w", err)
	}
	return all, nil
}
