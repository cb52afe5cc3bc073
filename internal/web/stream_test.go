package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// request is one of the owner's.
func request(method, url string, body io.Reader) *http.Request {
	r, err := http.NewRequest(method, "http://"+url, body)
	if err != nil {
		panic(err)
	}
	r.Header.Set("Authorization", "Bearer "+ownerToken)
	return r
}

// Each event is read before the next is sent: a buffer anywhere would stop both.
func TestServerSentEventsArriveOneByOne(t *testing.T) {
	w := newWorld(t)
	next := make(chan struct{})
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
		} else {
			w.Header().Set("Content-Length", "45") // which is no reason to wait for it
		}
		for i := range 5 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	for _, path := range []string{"/events", "/slow"} {
		res, err := w.client(w.outside).Do(request("GET", domain+appPath+path, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		in := bufio.NewReader(res.Body)
		for i := range 5 {
			event := make([]byte, len("data: 0\n\n"))
			if _, err := io.ReadFull(in, event); err != nil || string(event) != fmt.Sprintf("data: %d\n\n", i) {
				t.Fatalf("event %d: %q, %v", i, event, err)
			}
			next <- struct{}{}
		}
	}
}

// A request's body and its reply run at the same time, piece by piece.
func TestBothWaysStreamAtOnce(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(w, "echo "+line)
			w.(http.Flusher).Flush()
		}
	})
	body, feed := io.Pipe()
	answered := make(chan *http.Response)
	go func() {
		res, err := w.client(w.outside).Do(request("POST", appHost+"/", body))
		if err != nil {
			t.Error(err)
		}
		answered <- res
	}()
	fmt.Fprintln(feed, 0)
	res := within(t, "an answer before the request's end", answered)
	if res == nil {
		return
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i := range 10 {
		if line, err := in.ReadString('\n'); line != fmt.Sprintf("echo %d\n", i) {
			t.Fatalf("line %d: %q, %v", i, line, err)
		}
		fmt.Fprintln(feed, i+1)
	}
	feed.Close()
	if rest, err := io.ReadAll(in); string(rest) != "echo 10\n" || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
}

// zeros is n bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// heap is what lives now.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestGigabyteUpAndDownInBoundedMemory(t *testing.T) {
	const size = 1 << 30
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(w, r.Body); n != 0 || err != nil {
			t.Errorf("GET with a body of %d bytes, %v", n, err)
		}
		io.Copy(w, zeros(size))
	})
	w.app(workerA, readOnly.port, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	before := heap()
	check := func(at int64) {
		if now := heap(); now > before+32<<20 {
			t.Errorf("after %d MB %d MB of memory are in use, %d before", at>>20, now>>20, before>>20)
		}
	}
	res, err := w.client(w.outside).Do(request("GET", appHost+"/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var down int64
	for ; err == nil; check(down) {
		var n int64
		n, err = io.CopyN(io.Discard, res.Body, 128<<20)
		down += n
	}
	if down != size || err != io.EOF {
		t.Errorf("%d bytes came, %v", down, err)
	}
	var up atomic.Int64
	body := &watched{Reader: zeros(size), each: 128 << 20, n: &up, check: check}
	res, err = w.client(w.outside).Do(request("PUT", "read-only-"+appHost+"/", body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != fmt.Sprint(int64(size), nil) {
		t.Errorf("the app received %s", b)
	}
}

// watched calls check after every so many bytes.
type watched struct {
	io.Reader
	each  int64
	n     *atomic.Int64
	check func(int64)
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if was, now := w.n.Load(), w.n.Add(int64(n)); w.check != nil && was/w.each != now/w.each {
		w.check(now)
	}
	return n, err
}

// standsStill waits until an app is held up: the sockets' buffers are full.
func standsStill(t *testing.T, written *atomic.Int64) {
	t.Helper()
	waitFor(t, "the app to be held up", func() bool {
		was := written.Load()
		time.Sleep(200 * time.Millisecond)
		return was > 0 && written.Load() == was
	})
}

// A client that does not read holds the app up, not the server's memory; one that goes away ends the app's request.
func TestClientThatDoesNotReadAndGoesAway(t *testing.T) {
	w := newWorld(t)
	var written atomic.Int64
	ended := make(chan error, 1)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		for {
			n, err := w.Write(make([]byte, 64<<10))
			if written.Add(int64(n)); err != nil {
				ended <- err
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	res, err := w.client(w.outside).Do(request("GET", appHost+"/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	standsStill(t, &written)
	if n := written.Load(); n > 64<<20 {
		t.Errorf("the app wrote %d MB to a client that reads nothing", n>>20)
	}
	cancel()
	if err := within(t, "the app's end", ended); err == nil {
		t.Error("no error")
	}
}

// A client that goes away while the app still thinks, and in the middle of its upload.
func TestClientThatGoesAwayCancelsTheApp(t *testing.T) {
	w := newWorld(t)
	began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		ended <- struct{}{}
	})
	head := " / HTTP/1.1\r\nHost: " + appHost + "\r\n" + bearer_ + "\r\n"
	for _, text := range []string{"GET" + head + "\r\n", "POST" + head + "Content-Length: 1000\r\n\r\nsome"} {
		c, _ := w.raw(w.outside, text)
		within(t, "the request", began)
		c.Close()
		within(t, "the app's context", ended)
	}
}

// The body is asked for by the app itself, or never sent.
func TestExpectContinueIsTheApps(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s got %d", r.Header.Get("Expect"), len(b))
	})
	for path, want := range map[string]string{"/yes": "100-continue got 1048576", "/no": "too large\n"} {
		var sent atomic.Int64
		r := request("POST", appHost+path, &watched{Reader: zeros(1 << 20), each: 1, n: &sent})
		r.ContentLength = 1 << 20
		r.Header.Set("Expect", "100-continue")
		res, err := w.client(w.outside).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != want || (path == "/no") != (sent.Load() == 0) {
			t.Errorf("%s: %q, %d bytes sent", path, b, sent.Load())
		}
	}
}

// An app that refuses a large upload without reading it is heard.
func TestEarlyRefusalOfAnUploadArrives(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	})
	c, in := w.raw(w.outside, "POST / HTTP/1.1\r\nHost: "+appHost+"\r\n"+bearer_+"\r\nContent-Length: 1000000000\r\n\r\n"+strings.Repeat("x", 1000))
	defer c.Close()
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("%v %v", res, err)
	}
}

// An app that dies in the middle of its reply: the client must not take the part for the whole.
func TestBrokenReplyIsBroken(t *testing.T) {
	w := newWorld(t)
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	res, err := w.client(w.outside).Do(request("GET", appHost+"/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%q is taken for the whole", b)
	}
}

// Close breaks off what runs, also where the client does not read, and later requests are refused.
func TestCloseEndsEverything(t *testing.T) {
	w := newWorld(t)
	ended := make(chan struct{}, 2)
	began := make(chan struct{}, 3)
	var flood atomic.Int64
	w.app(workerA, app.port, func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		if r.Method == "POST" {
			io.Copy(io.Discard, r.Body)
			return
		}
		defer func() { ended <- struct{}{} }()
		for r.URL.Path == "/flood" {
			n, err := w.Write(make([]byte, 64<<10))
			if flood.Add(int64(n)); err != nil {
				return
			}
		}
		<-r.Context().Done()
	})
	think := make(chan reply, 1)
	go func() { think <- w.get(appHost + "/think") }()
	res, err := w.client(w.outside).Do(request("GET", appHost+"/flood", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	w.raw(w.outside, "POST / HTTP/1.1\r\nHost: "+appHost+"\r\n"+bearer_+"\r\nContent-Length: 1000\r\n\r\nsome")
	for range 3 {
		within(t, "all", began)
	}
	standsStill(t, &flood)
	closed := make(chan struct{})
	go func() { w.gateway.Close(); close(closed) }()
	within(t, "Close", closed)
	within(t, "the app", ended)
	within(t, "the app", ended)
	r := within(t, "the answer", think)
	r.expect(t, 503, "server ends")
	w.get(appHost+"/").expect(t, 503, "server ends")
}
