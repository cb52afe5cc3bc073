package manager

import (
	"crypto/rand"
	"crypto/sha256"
	"math/big"

	"muster/engine"
)

// newToken returns 256 random bits as letters and digits.
func newToken() string {
	var b [sha256.Size]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	return new(big.Int).SetBytes(b[:]).Text(62)
}

// Authenticate tells who a token belongs to. Tokens are looked up by their hash: how long that takes says nothing about a
// token that would be right.
func (m *Manager) Authenticate(token string) (engine.Identity, bool) {
	h := sha256.Sum256([]byte(token))
	m.mu.Lock()
	defer m.mu.Unlock()
	id, ok := m.tokens[h]
	return id, ok
}

// forget makes a token of a session that has ended worthless.
func (m *Manager) forget(token [sha256.Size]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tokens, token)
}
