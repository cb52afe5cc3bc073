package openssh

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
)

const keyType = "ssh-ed25519"

// Key is the key of a group.
type Key []byte

// NewKey makes a key; that takes some ten microseconds.
func NewKey() (Key, error) {
	_, private, err := ed25519.GenerateKey(nil)
	return Key(private), err
}

// Check reports what is no key, such as one that another version made.
func (k Key) Check() error {
	if len(k) != ed25519.PrivateKeySize {
		return fmt.Errorf("an ssh key of %d bytes, %d are expected", len(k), ed25519.PrivateKeySize)
	}
	return nil
}

// Public is the key as it stands in known_hosts and authorized_keys.
func (k Key) Public() string { return keyType + " " + base64.StdEncoding.EncodeToString(k.public()) }

func (k Key) public() []byte {
	return packed(nil, []byte(keyType), k[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

// Private is the key as ssh and sshd read it from a file, in the format of OpenSSH's PROTOCOL.key, not encrypted.
func (k Key) Private() []byte {
	check := []byte("mustermu") // twice the same four bytes: the format's sign that decryption worked, and nothing was encrypted
	copy(check[4:], check[:4])
	secret := packed(check, []byte(keyType), k[ed25519.PrivateKeySize-ed25519.PublicKeySize:], k, []byte("muster"))
	for i := byte(1); len(secret)%8 != 0; i++ {
		secret = append(secret, i)
	}
	b := packed([]byte("openssh-key-v1\x00"), []byte("none"), []byte("none"), nil)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = packed(b, k.public(), secret)
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: b})
}

// packed appends strings as SSH writes them: the length, then the bytes.
func packed(b []byte, list ...[]byte) []byte {
	for _, s := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}
