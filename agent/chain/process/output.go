package process

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"
)

// What a process may write to the agent's log: lines of so many bytes, the rest of longer ones is the next line, and
// so many lines in a second.
const (
	maxLine  = 1024
	maxLines = 50
)

// output is a pipe whose lines go to the log.
type output struct {
	read, write *os.File
	done        chan struct{}
}

func newOutput(log *slog.Logger, clock Clock) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o := &output{r, w, make(chan struct{})}
	go func() {
		defer close(o.done)
		relay(r, log, clock)
	}()
	return o, nil
}

// close waits until all that was written is in the log. Who has left the process's group may still hold the pipe and is
// not waited for.
func (o *output) close() error {
	err := o.write.Close()
	err = errors.Join(err, o.read.SetReadDeadline(time.Now().Add(time.Second)))
	<-o.done
	return errors.Join(err, o.read.Close())
}

// relay logs lines.
func relay(from io.Reader, log *slog.Logger, clock Clock) {
	lines := bufio.NewReaderSize(from, maxLine)
	var second time.Time
	var count int
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			return
		}
		if now := clock.Now().Truncate(time.Second); now != second {
			if count > maxLines {
				log.Warn("process writes too much", "lines left out", count-maxLines)
			}
			second, count = now, 0
		}
		if count++; count <= maxLines {
			log.Info("process writes", "line", string(line))
		}
	}
}
