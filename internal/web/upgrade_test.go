package web

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// The few lines of RFC 6455 that a test needs: text frames of less than 64 kB.

const wsKey = "dGhlIHNhbXBsZSBub25jZQ=="

func wsAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func wsWrite(w io.Writer, opcode byte, text string, masked bool) error {
	b := []byte{0x80 | opcode, 126}
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	payload := []byte(text)
	if masked {
		var mask [4]byte
		rand.Read(mask[:])
		b[1] |= 0x80
		b = append(b, mask[:]...)
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
	}
	_, err := w.Write(append(b, payload...))
	return err
}

func wsRead(r io.Reader) (opcode byte, text string, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, "", err
	}
	if head[1]&0x7f != 126 {
		return 0, "", fmt.Errorf("frame head %x", head)
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		io.ReadFull(r, mask[:])
	}
	b := make([]byte, binary.BigEndian.Uint16(head[2:]))
	_, err = io.ReadFull(r, b)
	for i := range b {
		b[i] ^= mask[i%4]
	}
	return head[0] & 0x0f, string(b), err
}

// echo is a websocket app: it says every text back, with the path it was asked under, until the connection ends.
func echo(ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Sec-Websocket-Version") != "13" {
			http.Error(w, "no websocket", 400)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"+
			"Set-Cookie: muster-web-8480=forged\r\n\r\n", wsAccept(r.Header.Get("Sec-Websocket-Key")))
		for {
			op, text, err := wsRead(rw)
			if err != nil || op == 8 {
				ended <- err
				return
			}
			if err := wsWrite(c, op, r.RequestURI+" "+text, false); err != nil {
				ended <- err
				return
			}
		}
	}
}

func handshake(host, path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: " + wsKey +
		"\r\nSec-WebSocket-Version: 13\r\n" + strings.Join(append(headers, "\r\n"), "\r\n")
}

// websocket opens one; the status is 101 or the refusal's.
func (w *world) websocket(l net.Listener, text string) (net.Conn, *bufio.Reader, *http.Response) {
	w.t.Helper()
	c, in := w.raw(l, text)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, in, res
}

func TestWebsocketsByBothWays(t *testing.T) {
	w := newWorld(t)
	ended := make(chan error, 10)
	w.app(workerA, app.port, echo(ended))
	for host, path := range map[string]string{appHost: "", domain: appPath} {
		c, in, res := w.websocket(w.outside, handshake(host, path+"/ws?x=1", bearer_))
		if res.StatusCode != 101 || res.Header.Get("Sec-Websocket-Accept") != wsAccept(wsKey) || len(res.Header["Set-Cookie"]) != 0 {
			t.Fatalf("%s: %v", host, res)
		}
		for i := range 50 {
			text := strings.Repeat(fmt.Sprint(i), 500)
			wsWrite(c, 1, text, true)
			if op, got, err := wsRead(in); op != 1 || got != "/ws?x=1 "+text || err != nil {
				t.Fatalf("%s: echo %d %q %v", host, op, got, err)
			}
		}
		c.Close() // a client that goes away
		within(t, "the app's end", ended)
	}
}

// Frames that are sent before the reply to the handshake is there.
func TestEarlyFramesAreNotLost(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, echo(make(chan error, 10)))
	var early strings.Builder
	early.WriteString(handshake(appHost, "/", bearer_))
	for i := range 3 {
		wsWrite(&early, 1, fmt.Sprint(i), true)
	}
	c, in, res := w.websocket(w.outside, early.String())
	if res.StatusCode != 101 {
		t.Fatal(res.Status)
	}
	wsWrite(c, 1, "3", true)
	for i := range 4 {
		if _, got, err := wsRead(in); got != fmt.Sprintf("/ %d", i) || err != nil {
			t.Fatalf("echo %q, %v", got, err)
		}
	}
}

func TestWebsocketsEndWithTheAppAndWithTheGateway(t *testing.T) {
	w := newWorld(t)
	ended := make(chan error, 10)
	w.app(workerA, app.port, echo(ended))
	c, in, _ := w.websocket(w.outside, handshake(appHost, "/", bearer_))
	wsWrite(c, 8, "", true) // the app closes
	if b, err := io.ReadAll(in); len(b) != 0 || err != nil {
		t.Errorf("after the app's end: %q, %v", b, err)
	}
	within(t, "the app's end", ended)

	_, in, _ = w.websocket(w.outside, handshake(appHost, "/", bearer_))
	w.gateway.Close()
	if b, _ := io.ReadAll(in); len(b) != 0 {
		t.Errorf("after Close: %q", b)
	}
	within(t, "the app's end", ended)
}

func TestOtherProtocolsCanBeSwitchedTo(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		c, rw, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n", r.Header.Get("Upgrade"))
		b, _ := io.ReadAll(rw) // until the client has said everything, and still answers
		fmt.Fprintf(c, "got %s", b)
	})
	c, in, res := w.websocket(w.outside, "POST /exec HTTP/1.1\r\nHost: "+appHost+"\r\n"+bearer_+"\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "tcp" {
		t.Fatal(res)
	}
	io.WriteString(c, "everything")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(in); string(b) != "got everything" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

func TestAppThatRefusesTheUpgradeIsHeard(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "not here", http.StatusUpgradeRequired) })
	_, _, res := w.websocket(w.outside, handshake(appHost, "/", bearer_))
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusUpgradeRequired || string(b) != "not here\n" {
		t.Errorf("%v %s", res, b)
	}
}
