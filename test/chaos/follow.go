package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// follower reads a session's console from its beginning to its end, from position to position over every restart of the
// server and every cut link, and keeps what it read: that must be what is on disk, byte for byte.
type follower struct {
	w           *world
	api         *api
	session     string
	file        *os.File
	out         *bufio.Writer
	from        string
	connections int
	done        chan struct{}
	err         error
	cancel      context.CancelFunc
}

func (w *world) tapeOf(session string) string { return filepath.Join(w.tape, session+".followed") }

// follow begins to follow, through a proxy.
func (w *world) follow(session, socket string) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{w: w, api: w.api(socket), session: session, done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(f.done)
		f.err = f.run(ctx)
	}()
	return f
}

func (f *follower) run(ctx context.Context) error {
	var err error
	if f.file, err = os.Create(f.w.tapeOf(f.session)); err != nil {
		return err
	}
	defer f.file.Close()
	f.out = bufio.NewWriter(f.file)
	for {
		err := f.read(ctx)
		var refused *statusError
		switch {
		case err == io.EOF:
			return f.out.Flush()
		case ctx.Err() != nil:
			return errors.Join(errors.New("the console did not come to its end"), f.out.Flush())
		case errors.As(err, &refused):
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// read follows as long as the connection lasts. io.EOF is the end of the console.
func (f *follower) read(ctx context.Context) error {
	path := "/sessions/" + f.session + "/console?follow=true&from=" + url.QueryEscape(f.from)
	r, err := f.api.do(ctx, "GET", path, "application/x-ndjson", nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	f.connections++
	in := bufio.NewReaderSize(r.Body, 256<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if err := f.keep(line); err != nil {
			return &statusError{body: err.Error()}
		}
	}
}

func (f *follower) keep(line []byte) error {
	var v struct{ Position, Engine, Stream, Text, Base64 string }
	if err := json.Unmarshal(line, &v); err != nil {
		return fmt.Errorf("%.80q is no record: %w", line, err)
	}
	if v.Position == "" {
		return nil // a notice, which is in no log
	}
	payload := []byte(v.Text)
	if v.Base64 != "" {
		var err error
		if payload, err = base64.StdEncoding.DecodeString(v.Base64); err != nil {
			return err
		}
	}
	f.from = v.Position
	return writeTape(f.out, record{engine: v.Engine, stream: v.Stream, payload: payload})
}

// writeTape writes a record in the form in which what was followed and what is on disk are compared.
func writeTape(out io.Writer, r record) error {
	_, err := fmt.Fprintf(out, "%s %s %d\n%s\n", r.engine, r.stream, len(r.payload), r.payload)
	return err
}

// settle waits for the end of following.
func (f *follower) settle() error {
	select {
	case <-f.done:
	case <-time.After(deadline):
		f.cancel()
		<-f.done
	}
	return f.err
}
