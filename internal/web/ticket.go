package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/engine"
)

const (
	ticketLife = 24 * time.Hour
	codeLife   = 30 * time.Second // a redirect's way through the browser
)

// tickets makes and reads what browsers hold: cookies, which anybody who has the key can check, and codes, which are good
// once. The key lives as long as the process: after a restart people log in again, as tokens change too.
type tickets struct {
	key [32]byte
	now func() time.Time

	mu    sync.Mutex
	codes map[[sha256.Size]byte]code // by hash: finding one tells nothing by its time
}

type code struct {
	scope   string
	who     engine.Identity
	expires time.Time
}

func newTickets() *tickets {
	t := &tickets{now: time.Now, codes: map[[sha256.Size]byte]code{}}
	rand.Read(t.key[:]) // never fails: crypto/rand aborts the program instead
	return t
}

// seal makes a cookie's value: "WHO.EXPIRES.MAC". The MAC also covers the scope, which the reader knows.
func (t *tickets) seal(scope string, who engine.Identity) string {
	name, err := json.Marshal(who)
	if err != nil {
		panic(err) // texts and numbers only
	}
	text := base64.RawURLEncoding.EncodeToString(name) + "." + strconv.FormatInt(t.now().Add(ticketLife).Unix(), 10)
	return text + "." + hex.EncodeToString(t.mac(scope, text))
}

// open reads what seal made for the same scope.
func (t *tickets) open(scope, ticket string) (engine.Identity, bool) {
	i := strings.LastIndexByte(ticket, '.')
	if i < 0 {
		return engine.Identity{}, false
	}
	mac, err := hex.DecodeString(ticket[i+1:])
	if err != nil || !hmac.Equal(mac, t.mac(scope, ticket[:i])) {
		return engine.Identity{}, false
	}
	name, expires, _ := strings.Cut(ticket[:i], ".")
	if n, err := strconv.ParseInt(expires, 10, 64); err != nil || t.now().Unix() >= n {
		return engine.Identity{}, false
	}
	var who engine.Identity
	b, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil || json.Unmarshal(b, &who) != nil {
		return engine.Identity{}, false
	}
	return who, true
}

func (t *tickets) mac(scope, text string) []byte {
	m := hmac.New(sha256.New, t.key[:])
	m.Write([]byte(scope + "\n" + text)) // neither holds a line's end
	return m.Sum(nil)
}

// issue makes a code for one use.
func (t *tickets) issue(scope string, who engine.Identity) string {
	text := rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, c := range t.codes { // the unused ones; only people who are logged in make any
		if !t.now().Before(c.expires) {
			delete(t.codes, k)
		}
	}
	t.codes[sha256.Sum256([]byte(text))] = code{scope: scope, who: who, expires: t.now().Add(codeLife)}
	return text
}

// redeem uses a code up, also one that was made for another scope.
func (t *tickets) redeem(scope, text string) (engine.Identity, bool) {
	k := sha256.Sum256([]byte(text))
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.codes[k]
	delete(t.codes, k)
	if !ok || c.scope != scope || !t.now().Before(c.expires) {
		return engine.Identity{}, false
	}
	return c.who, true
}
