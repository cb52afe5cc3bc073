package server

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"muster/api"
	"muster/engine"
)

// FuzzLaunchEngine: the original's loosely typed body becomes a typed one or is refused as the caller's mistake.
func FuzzLaunchEngine(f *testing.F) {
	f.Add(`{"cpu":["0.5"],"memory":" 1 ","env":{"A":1e6,"B":null,"C":[true]},"nvidia_gpu":0,"script":["a.py"]}`)
	f.Add(`{"cpu":"NaN","nvidia_gpu":"1e300","env":[],"code":{}}`)
	f.Add(`{"nvidia_gpu":-1.5,"memory":"inf","name":[[]],"env":{"":[[]]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		var in api.LaunchEngine
		if json.Unmarshal([]byte(body), &in) != nil {
			return
		}
		req, err := launchRequest(in)
		if err != nil {
			if engine.KindOf(err) != engine.Invalid || !utf8.ValidString(err.Error()) || len(err.Error()) > 500 {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if req.N != 1 || req.GPUs > 1e9 || req.GPUs < -1e9 {
			t.Fatalf("%q: %+v", body, req)
		}
		again, err := launchRequest(api.LaunchEngine{Kernel: req.Kernel, Script: req.Script, Code: req.Code, Name: req.Name, GPUs: float64(req.GPUs)})
		if err != nil || again.Kernel != req.Kernel || again.Script != req.Script || again.Code != req.Code || again.GPUs != req.GPUs {
			t.Fatalf("%q: %+v, then %+v, %v", body, req, again, err)
		}
	})
}

// FuzzText: text that is let in comes out of the decoder as it was meant, without the sign for what is no character.
func FuzzText(f *testing.F) {
	for _, s := range []string{`"a"`, `"\ud83d\ude00"`, `"\udc80"`, `"\ud83d"`, `"\\ud83d"`, `"\ud83d\\ude00"`, "\"\xff\"", `"\u`, `{"a":"\uD83D\u0041"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		err := checkText([]byte(body))
		if err != nil && !strings.Contains(err.Error(), "line ") {
			t.Fatalf("%q: %v", body, err)
		}
		var v any
		if json.Unmarshal([]byte(body), &v) != nil {
			return
		}
		b, _ := json.Marshal(v)
		lost := strings.ContainsRune(string(b), utf8.RuneError) || strings.Contains(string(b), `\ufffd`)
		meant := strings.ContainsRune(body, utf8.RuneError) && utf8.ValidString(body) || strings.Contains(strings.ToLower(body), `\ufffd`)
		if err == nil && lost && !meant {
			t.Fatalf("%q lost characters: %s", body, b)
		}
	})
}
