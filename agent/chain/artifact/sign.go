package artifact

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrSignature is returned for an object that no key has signed.
var ErrSignature = errors.New("no key that is trusted here has signed the object")

// Key checks signatures (Ed25519, RFC 8032).
type Key = ed25519.PublicKey

// ReadKeys reads public keys in PEM, one in each file, as `openssl pkey -pubout` writes them.
func ReadKeys(files []string) ([]Key, error) {
	var keys []Key
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the key: %w", err)
		}
		key, err := parseKey(data)
		if err != nil {
			return nil, fmt.Errorf("read the key %s: %w", file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(data []byte) (Key, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("it has no PEM block PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	k, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T; want Ed25519", key)
	}
	return k, nil
}

// Signature is where the signature of an object is when nothing else is said: beside it, with .sig behind
// its name. Images have none of their own.
func (s Source) Signature() (Source, bool) {
	if s.scheme == schemeOCI {
		return Source{}, false
	}
	s.place, s.inside = s.place+".sig", ""
	return s, true
}

// check wants a signature of the object when there are keys. What a server sent is kept with the object.
func (f *Fetcher) check(ctx context.Context, o *Object, at Source) error {
	if len(f.Keys) == 0 {
		return nil
	}
	if at == (Source{}) {
		return fmt.Errorf("%w: nothing says where a signature is", ErrSignature)
	}
	const suffix = ".sig" // in the cache
	if f.Cache != "" && at.Remote() {
		data, err := Source{place: filepath.Join(f.Cache, o.Sum+suffix)}.readFile()
		if err == nil && signed(o, data, f.Keys) {
			return nil
		}
	}
	data, err := f.read(ctx, at)
	if err != nil {
		return fmt.Errorf("%w: get the signature: %w", ErrSignature, err)
	}
	if !signed(o, data, f.Keys) {
		return ErrSignature
	}
	if at.Remote() {
		return f.keep(o.Sum+suffix, data)
	}
	return nil
}

// signed tells whether one of the keys has made the signature, which is 64 bytes or their base64.
func signed(o *Object, signature []byte, keys []Key) bool {
	if len(signature) != ed25519.SignatureSize {
		var err error
		if signature, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(signature))); err != nil {
			return false
		}
	}
	return slices.ContainsFunc(keys, func(k Key) bool { return ed25519.Verify(k, o.Data, signature) })
}
