// Package record writes what passes on a scenario's links into pcapng files.
//
// There is one file for each link, with both of its ends as interfaces: a frame stands there once,
// on the interface that sent it. An interface without a link (a bridge, a VLAN interface) has a
// file of its own, with both directions. Times are those of the scenario's clock; frames that
// pass while it stands still are a nanosecond apart, in their order.
package record

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/capture"
	"github.com/weirnet/weir/sim/spec"
)

// Suffix ends the names of the files.
const Suffix = ".pcapng"

// nanoseconds is the timestamps' resolution, as pcapng writes it: ten to the minus ninth.
const nanoseconds = 9

// Recorder writes the files of one scenario.
type Recorder struct {
	capture *capture.Capture
	tracks  map[spec.Port]track
	files   []*file
	last    int64 // the latest timestamp, ns
}

// track is where the frames of an interface go.
type track struct {
	file     *file
	number   int
	sentOnly bool // what arrives was written when it was sent
}

// file is one pcapng file.
type file struct {
	file *os.File
	buf  *bufio.Writer
	ng   *pcapgo.NgWriter
}

// Open begins to record all interfaces of a topology that stands. The folder is made; files of
// that name are replaced. The caller closes the Recorder.
func Open(dir string, net capture.Network, t *spec.Topology) (*Recorder, error) {
	r := &Recorder{tracks: map[spec.Port]track{}}
	if err := r.create(dir, t); err != nil {
		return nil, errors.Join(fmt.Errorf("record: %w", err), r.Close())
	}
	var all []spec.Port
	for _, h := range t.Hosts {
		for _, i := range h.Interfaces {
			all = append(all, spec.Port{Host: h.Name, Interface: i.Name})
		}
	}
	var err error
	if r.capture, err = capture.Open(net, t, all); err != nil {
		return nil, errors.Join(fmt.Errorf("record: %w", err), r.Close())
	}
	return r, nil
}

// create makes the files with their headers.
func (r *Recorder) create(dir string, t *spec.Topology) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, l := range t.Links {
		name := l.A.Host + "-" + l.A.Interface + "--" + l.B.Host + "-" + l.B.Interface
		if err := r.add(filepath.Join(dir, name+Suffix), t, l.A, l.B); err != nil {
			return err
		}
	}
	for _, h := range t.Hosts {
		for _, i := range h.Interfaces {
			p := spec.Port{Host: h.Name, Interface: i.Name}
			if _, ok := r.tracks[p]; ok {
				continue
			}
			if err := r.add(filepath.Join(dir, p.Host+"-"+p.Interface+Suffix), t, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// add makes a file for one or both ends of something.
func (r *Recorder) add(path string, t *spec.Topology, ports ...spec.Port) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	out := &file{file: f, buf: bufio.NewWriter(f)}
	r.files = append(r.files, out)
	describe := func(p spec.Port) pcapgo.NgInterface {
		link := layers.LinkTypeEthernet
		if t.Host(p.Host).Interface(p.Interface).Kind.L3() {
			link = layers.LinkTypeRaw
		}
		return pcapgo.NgInterface{Name: p.Interface, Description: p.String(), LinkType: link,
			TimestampResolution: nanoseconds}
	}
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "weir"}}
	if out.ng, err = pcapgo.NewNgWriterInterface(out.buf, describe(ports[0]), options); err != nil {
		return err
	}
	for i, p := range ports {
		if i > 0 {
			if _, err := out.ng.AddInterface(describe(p)); err != nil {
				return err
			}
		}
		r.tracks[p] = track{file: out, number: i, sentOnly: len(ports) > 1}
	}
	return nil
}

// Save writes what has passed since the call before. It is called when no packet is under way;
// now is the scenario's clock in nanoseconds.
func (r *Recorder) Save(now int64) error {
	packets, err := r.capture.Drain()
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	for _, p := range packets {
		t, ok := r.tracks[spec.Port{Host: p.Hook.Namespace, Interface: p.Hook.Interface}]
		if !ok || t.sentOnly && p.Hook.Direction == flow.Ingress {
			continue
		}
		r.last = max(r.last+1, now)
		info := gopacket.CaptureInfo{Timestamp: time.Unix(0, r.last), InterfaceIndex: t.number,
			CaptureLength: len(p.Frame), Length: len(p.Frame)}
		if err := t.file.ng.WritePacket(info, p.Frame); err != nil {
			return fmt.Errorf("record: %w", err)
		}
	}
	return nil
}

// Close ends the recording. It may be called twice.
func (r *Recorder) Close() error {
	var errs []error
	if r.capture != nil {
		errs = append(errs, r.capture.Close())
	}
	for _, f := range r.files {
		if f.ng != nil {
			errs = append(errs, f.ng.Flush(), f.buf.Flush())
		}
		errs = append(errs, f.file.Close())
	}
	r.capture, r.files = nil, nil
	return errors.Join(errs...)
}

// Leave stops to record on a host that is to be deleted, Join begins again on one that is there again.
func (r *Recorder) Leave(host string) error { return r.capture.Leave(host) }

// Join is the other way round of Leave.
func (r *Recorder) Join(net capture.Network, t *spec.Topology, host string) error {
	return r.capture.Join(net, t, host)
}
