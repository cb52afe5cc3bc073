package test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"
)

// browser finds *.localhost on this machine, keeps cookies and asks for pages as browsers do.
type browser struct {
	t    *testing.T
	http *http.Client
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	noOrigin := func(r *http.Request, _ []*http.Request) error { r.Header.Del("Origin"); return nil } // a POST's, on its way on
	return &browser{t, &http.Client{Jar: jar, Timeout: deadline, CheckRedirect: noOrigin, Transport: &http.Transport{
		DisableKeepAlives: true, // what is left is counted
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, _ := net.SplitHostPort(address)
			if strings.HasSuffix(host, "localhost") {
				address = "127.0.0.1:" + port
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}}
}

// page is an answer at the end of all redirects, and where that was.
type page struct {
	*http.Response
	text string
	at   string
}

// ask sends a request; headers are "Name: value".
func (b *browser) ask(method, address, body string, headers ...string) page {
	b.t.Helper()
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	res, err := b.http.Do(r)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, address, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, address, err)
	}
	return page{res, string(text), res.Request.URL.String()}
}

// open is what a person does: a page is asked for, to be shown.
func (b *browser) open(address string) page {
	b.t.Helper()
	return b.ask("GET", address, "", "Accept: text/html,*/*;q=0.8")
}

// has fails the test unless the answer has this status and these texts.
func (p page) has(t *testing.T, status int, texts ...string) page {
	t.Helper()
	if p.StatusCode != status {
		t.Errorf("%s: status %d, want %d: %s", p.at, p.StatusCode, status, p.text)
	}
	for _, s := range texts {
		if !strings.Contains(p.text, s) {
			t.Errorf("%s: %q is missing: %s", p.at, s, p.text)
		}
	}
	return p
}

// told is what the app of testdata/webapp.py says it was asked.
type told struct {
	Engine, Asked, Host, Body string
	Port                      int
	Prefix, Cookie, Auth      *string
}

func (p page) told(t *testing.T) (a told) {
	t.Helper()
	if p.StatusCode != 200 {
		t.Fatalf("%s: status %d: %s", p.at, p.StatusCode, p.text)
	}
	if err := json.Unmarshal([]byte(p.text), &a); err != nil {
		t.Fatalf("%s: %v: %s", p.at, err, p.text)
	}
	return a
}

// upgrade asks for a websocket by hand. speak sends a frame, unless it is empty, and returns the next that comes.
func upgrade(t *testing.T, domain, host, headers string) (status int, speak func(string) string) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+domain[strings.LastIndexByte(domain, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(deadline))
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: "+host+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: "+key+"\r\n"+headers+"\r\n")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if want := base64.StdEncoding.EncodeToString(sum[:]); res.StatusCode == 101 && res.Header.Get("Sec-WebSocket-Accept") != want {
		t.Errorf("headers %v", res.Header)
	}
	return res.StatusCode, func(text string) string {
		if text != "" {
			frame := append([]byte{0x81, 0x80 | byte(len(text)), 1, 2, 3, 4}, text...)
			for i := range text {
				frame[6+i] ^= byte(i%4 + 1)
			}
			conn.Write(frame)
		}
		head := make([]byte, 2)
		if _, err := io.ReadFull(in, head); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, head[1])
		if _, err := io.ReadFull(in, body); err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
}
