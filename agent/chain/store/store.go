// Package store keeps a value in a file that is either whole or not there: it is written beside,
// synchronized, and renamed; and what was damaged since is not read.
package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// format names the layout of the file.
const format = "weir-store/1"

// maxSize is what a file may have, in bytes.
const maxSize = 64 << 20

// ErrDamaged is returned by Load for a file that is not as Save has written it.
var ErrDamaged = errors.New("the file is damaged")

// envelope is what is in the file.
type envelope struct {
	Format string          `json:"format"`
	SHA256 string          `json:"sha256"` // of Data, without insignificant space
	Data   json.RawMessage `json:"data"`
}

// Save writes v as JSON. When it fails, the file is as it was. Only its owner may read it.
func Save(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	text, err := json.Marshal(envelope{Format: format, SHA256: sum(data), Data: data})
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := replace(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // unless it was renamed
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Load reads what Save has written into v. The error is os.ErrNotExist when there is no file, and
// ErrDamaged when it was changed, cut off, or written by something else; v is not touched then.
func Load(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	data, err := open(text)
	if err == nil {
		err = strict(data, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	return nil
}

// open checks an envelope and returns what is in it.
func open(text []byte) (json.RawMessage, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("it is larger than %d bytes", maxSize)
	}
	var e envelope
	if err := strict(text, &e); err != nil {
		return nil, err
	}
	if e.Format != format {
		return nil, fmt.Errorf("its format is %q, want %q", e.Format, format)
	}
	var data bytes.Buffer
	if err := json.Compact(&data, e.Data); err != nil {
		return nil, err
	}
	if got := sum(data.Bytes()); got != e.SHA256 {
		return nil, fmt.Errorf("its checksum is %s, want %s", got, e.SHA256)
	}
	return data.Bytes(), nil
}

// strict decodes one JSON value and refuses what v has no field for.
func strict(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after its end")
	}
	return nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
