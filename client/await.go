package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"muster/api"
)

// awaitLines is Await with progress: the reply comes line by line.
func (c *Client) awaitLines(ctx context.Context, session string, req api.Await, progress func(api.AwaitProgress)) (api.Awaited, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return api.Awaited{}, err
	}
	resp, err := c.do(ctx, "POST", sessionPath(session, "/await"),
		request{body: bytes.NewReader(b), bodyType: "application/json", accept: typeNDJSON})
	if err != nil {
		return api.Awaited{}, err
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(resp.Body)
	for {
		var line api.AwaitLine
		if err := decoder.Decode(&line); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // a result always comes last
			}
			return api.Awaited{}, c.broken(ctx, err)
		}
		switch {
		case line.Result != nil:
			return *line.Result, nil
		case line.Error != nil:
			return api.Awaited{}, FromWire(*line.Error)
		case line.Progress != nil:
			progress(*line.Progress)
		}
	}
}
