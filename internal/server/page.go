package server

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// tailBytes is how much of what an engine printed its page shows: some screens full.
const tailBytes = 64 << 10

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// pageData is what page.html shows.
type pageData struct {
	api.Worker
	Description string
	Log         string
	Cut         bool // the log's beginning is not shown
}

// enginePage is for people who follow html_url: the description, and the end of what the engine printed. It is as it was when
// it was asked for; the browser's reload shows the newest.
func (s *Server) enginePage(ctx context.Context, in *DashboardPath) (*huma.StreamResponse, error) {
	w, session, err := s.find(ctx, *in)
	if err != nil {
		return nil, err
	}
	description, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return nil, engine.Errorf(engine.Internal, "the description cannot be written: %v", err)
	}
	data := pageData{Worker: w, Description: string(description)}
	turn, err := s.replyTurn(ctx, session, largeReply+1) // the whole log is read for its end
	if err != nil {
		return nil, err
	}
	defer turn()
	if data.Log, data.Cut, err = s.tail(ctx, session, w.ID); err != nil {
		return nil, err
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, data); err != nil {
		return nil, err
	}
	return plain(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeHTML+"; charset=utf-8")
		// What is shown was printed by engines: nothing of it may run, and no other page may frame it.
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Write(page.Bytes()) // a client that is gone needs no answer
	}), nil
}

// tail is the end of what an engine printed.
func (s *Server) tail(ctx context.Context, session engine.ID, id string) (text string, cut bool, err error) {
	log, _, _, err := s.manager.Console(session)
	if err != nil {
		return "", false, err
	}
	cursor, err := log.Engine(id, "")
	if err != nil {
		return "", false, err
	}
	defer cursor.Close()
	var kept []byte
	err = console.Follow(ctx, cursor, nil, nil, func(r console.Record, _ console.Position) error {
		if message, damaged := console.Damage(r); damaged {
			kept = append(kept, "\nmuster: "+message+"\n"...)
			return nil
		}
		if r.Stream != console.Stdout && r.Stream != console.Stderr {
			return nil
		}
		if kept = append(kept, r.Payload...); len(kept) > 4*tailBytes {
			kept, cut = append(kept[:0], kept[len(kept)-tailBytes:]...), true
		}
		return nil
	}, func() error { return nil })
	if len(kept) > tailBytes {
		kept, cut = kept[len(kept)-tailBytes:], true
	}
	return strings.ToValidUTF8(string(kept), "�"), cut, err
}
