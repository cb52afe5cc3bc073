package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
)

// KeySize is the length of a key for Seal, in bytes.
const KeySize = 32

// NewKey returns a fresh key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	rand.Read(key) // never fails: crypto/rand aborts the program instead
	return key
}

// Seal makes of plain what only the key opens, bound to the name of what it is a part of. The keeper of a session holds the
// key, in memory: whoever reads the database, or a copy of the disk, finds no token, environment or code in it, and when the
// session has ended nobody does.
func Seal(key, plain []byte, name string) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(nil, nil, plain, []byte(name)), nil
}

// Unseal is the reverse of Seal; an error if sealed is anything else than what it made for that name with that key.
func Unseal(key, sealed []byte, name string) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("open the sealed part of %s: %w", name, err)
	}
	return plain, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a key for records has %d bytes, not %d", KeySize, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
