package differ

// talk is a TCP connection: what is still to be sent of it, in order.
type talk struct{ frames [][]byte }

// talks draws a few connections.
func (d *drawer) talks() []*talk {
	var all []*talk
	for range d.IntN(12) {
		all = append(all, d.talk())
	}
	return all
}

// talker is one end of a connection while it is written.
type talker struct {
	ends     ends
	seq, ack uint32
}

// talk draws one connection that keeps to the rules: handshake, data, and an end, but for what
// is left out of it by chance.
func (d *drawer) talk() *talk {
	t, e := &talk{}, d.ends()
	client := &talker{ends: e, seq: d.Uint32()}
	server := &talker{ends: e.back(), seq: d.Uint32()}
	say := func(from, to *talker, flags uint8, bytes int) {
		if from.ack != 0 {
			flags |= 0x10
		}
		frame := d.segment(from, flags, bytes)
		from.seq += uint32(bytes)
		if flags&0x03 != 0 {
			from.seq++
		}
		to.ack = from.seq
		t.frames = append(t.frames, frame)
	}
	say(client, server, 0x02, 0)
	say(server, client, 0x02, 0)
	say(client, server, 0, 0)
	for range d.IntN(6) {
		if d.oneIn(2) {
			client, server = server, client
		}
		say(client, server, 0x08, d.IntN(30))
	}
	switch d.IntN(6) {
	case 0:
		say(server, client, 0x04, 0)
	case 1: // it stays open
	default:
		say(client, server, 0x01, d.IntN(2))
		say(server, client, 0, 0)
		say(server, client, 0x01, d.IntN(2))
		say(client, server, 0, 0)
	}
	d.disturb(t)
	return t
}

// segment is one packet of a connection, without chance.
func (d *drawer) segment(from *talker, flags uint8, bytes int) []byte {
	body := d.tcp(from.ends, flags, from.seq, from.ack)
	body = append(body[:int(body[12]>>4)*4], make([]byte, bytes)...)
	return d.link(from.ends.v6, d.ip(from.ends, protoTCP, body))
}

// disturb loses, repeats and swaps some packets.
func (d *drawer) disturb(t *talk) {
	var kept [][]byte
	for _, f := range t.frames {
		if d.oneIn(15) {
			continue
		}
		kept = append(kept, f)
		for d.oneIn(12) {
			kept = append(kept, f)
		}
	}
	for range d.IntN(4) {
		if len(kept) > 1 {
			i, j := d.IntN(len(kept)), d.IntN(len(kept))
			kept[i], kept[j] = kept[j], kept[i]
		}
	}
	t.frames = kept
}

// talkOn sends the next packet of one of the connections, and returns those that have more.
// When one is over another may begin.
func (d *drawer) talkOn(talks []*talk) []*talk {
	i := d.IntN(len(talks))
	t := talks[i]
	if len(t.frames) == 0 {
		if d.oneIn(4) {
			return append(talks[:i], talks[i+1:]...)
		}
		talks[i] = d.talk()
		return talks
	}
	d.packet(t.frames[0])
	t.frames = t.frames[1:]
	return talks
}
