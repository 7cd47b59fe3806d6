package flow

// Handshake is what the handshake of a TCP connection told.
type Handshake struct {
	// Server is the time from the SYN to the SYN and ACK, Client from there to the ACK, in ns; nil
	// when it is not known, or could be of another packet.
	Server *int64 `json:"server_ns,omitempty"`
	Client *int64 `json:"client_ns,omitempty"`
	// SYNRepeats and SYNACKRepeats are how often each was repeated.
	SYNRepeats    uint32 `json:"syn_repeats,omitempty"`
	SYNACKRepeats uint32 `json:"syn_ack_repeats,omitempty"`
}
