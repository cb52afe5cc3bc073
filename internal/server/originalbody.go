package server

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"muster/api"
	"muster/engine"
)

// launchRequest reads the body of an original's launch. What the values mean is for the Manager; here they get their types.
func launchRequest(in api.LaunchEngine) (req api.LaunchWorkers, err error) {
	req.N = 1
	for _, f := range []struct {
		name string
		from any
		to   *string
	}{
		{"kernel", in.Kernel, &req.Kernel}, {"script", in.Script, &req.Script}, {"code", in.Code, &req.Code}, {"name", in.Name, &req.Name},
	} {
		if *f.to, err = textOf(f.name, f.from); err != nil {
			return req, err
		}
	}
	if req.CPU, err = numberOf("cpu", in.CPU); err != nil {
		return req, err
	}
	if req.Memory, err = numberOf("memory", in.Memory); err != nil {
		return req, err
	}
	if req.GPUs, err = wholeOf("nvidia_gpu", in.GPUs); err != nil {
		return req, err
	}
	req.Env, err = envOf(in.Env)
	return req, err
}

// single takes a value out of the list that R's encoders put it in.
func single(v any) any {
	if list, ok := v.([]any); ok && len(list) == 1 {
		return list[0]
	}
	return v
}

// nothing reports what clients send where they have no value.
func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func textOf(name string, v any) (string, error) {
	v = single(v)
	if nothing(v) {
		return "", nil
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	return "", engine.Errorf(engine.Invalid, "%s must be text, not %s", name, shown(v))
}

// numberOf is 0 for nothing: where 0 is no size, the Manager says so.
func numberOf(name string, v any) (float64, error) {
	v = single(v)
	if nothing(v) {
		return 0, nil
	}
	switch n := v.(type) {
	case float64:
		return n, nil
	case string:
		if f, err := strconv.ParseFloat(strings.TrimSpace(n), 64); err == nil {
			return f, nil
		}
	}
	return 0, engine.Errorf(engine.Invalid, "%s must be a number, not %s", name, shown(v))
}

func wholeOf(name string, v any) (int, error) {
	f, err := numberOf(name, v)
	if err == nil && (f != math.Trunc(f) || math.Abs(f) > 1e9) { // also NaN
		err = engine.Errorf(engine.Invalid, "%s must be a whole number, not %s", name, shown(single(v)))
	}
	if err != nil {
		return 0, err
	}
	return int(f), nil
}

// envOf makes text of the values; null is empty, as None is in the Python client.
func envOf(v any) (map[string]string, error) {
	v = single(v)
	if nothing(v) {
		return nil, nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, engine.Errorf(engine.Invalid, "env must be an object of names and values, not %s", shown(v))
	}
	env := make(map[string]string, len(object))
	for k, e := range object {
		switch e := single(e).(type) {
		case nil:
			env[k] = ""
		case string:
			env[k] = e
		default:
			env[k] = compact(e)
		}
	}
	return env, nil
}

func compact(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64) // 1000000, not 1e+06
	}
	b, _ := json.Marshal(v) // it was JSON
	return string(b)
}

// shown is a value in a message.
func shown(v any) string {
	b, _ := json.Marshal(v) // it was JSON
	if len(b) > 80 {
		return strings.ToValidUTF8(string(b[:80]), "") + "…"
	}
	return string(b)
}
