package artifact

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// ErrSignature is returned for an object that no key has signed.
var ErrSignature = errors.New("no key that is trusted here has signed the object")

// Key checks signatures: it is an ed25519.PublicKey (RFC 8032), or an *ecdsa.PublicKey of the curve P-256, whose
// signatures are of a SHA-256 sum (FIPS 186-5, in ASN.1).
type Key crypto.PublicKey

// ReadKeys reads public keys in PEM, one in each file, as `openssl pkey -pubout` and `cosign public-key` write them.
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
	switch k := key.(type) {
	case ed25519.PublicKey:
		return k, nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return k, nil
		}
		return nil, fmt.Errorf("it is of the curve %s; want Ed25519 or P-256", k.Params().Name)
	}
	return nil, fmt.Errorf("it is a %T; want Ed25519, or ECDSA of the curve P-256", key)
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

// signed tells whether one of the keys has made the signature, which a file has as it is, in base64, or in a Sigstore
// bundle.
func signed(o *Object, file []byte, keys []Key) bool {
	forms := [][]byte{file}
	if plain, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(file))); err == nil {
		forms = append(forms, plain)
	}
	if bundled := ofBundle(file, o); bundled != nil {
		forms = append(forms, bundled)
	}
	for _, signature := range forms {
		if slices.ContainsFunc(keys, func(k Key) bool { return verifies(k, o.Data, signature) }) {
			return true
		}
	}
	return false
}

func verifies(k Key, data, signature []byte) bool {
	switch k := k.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, data, signature)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(data)
		return ecdsa.VerifyASN1(k, sum[:], signature)
	}
	return false
}

// bundle is what is read of a Sigstore bundle (github.com/sigstore/protobuf-specs, sigstore_bundle.proto, in JSON): the
// signature, and what it is of. Who trusts a key needs no certificate, and no log that says when it was used.
type bundle struct {
	MessageSignature struct {
		MessageDigest struct {
			Algorithm string `json:"algorithm"`
			Digest    []byte `json:"digest"`
		} `json:"messageDigest"`
		Signature []byte `json:"signature"`
	} `json:"messageSignature"`
}

// ofBundle is the signature in a Sigstore bundle of this object, nil when there is none.
func ofBundle(text []byte, o *Object) []byte {
	var b bundle
	if json.Unmarshal(text, &b) != nil {
		return nil
	}
	m, sum := &b.MessageSignature, sha256.Sum256(o.Data)
	if m.MessageDigest.Algorithm != "SHA2_256" || !bytes.Equal(m.MessageDigest.Digest, sum[:]) {
		return nil
	}
	return m.Signature
}
