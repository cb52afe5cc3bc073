package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// jsonFormat decodes bodies with errors that say where, takes null as absent, and refuses text that is not UTF-8
// (encoding/json would silently replace it, and a script would run with other text than was sent).
var jsonFormat = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		if err := checkText(data); err != nil {
			return err
		}
		if err := json.Unmarshal(data, v); err != nil {
			return located(data, err)
		}
		// huma decodes twice: into any for validation, then into the type.
		if top, ok := v.(*any); ok {
			if object, ok := (*top).(map[string]any); ok {
				for k, e := range object {
					if e == nil {
						delete(object, k)
					}
				}
			}
		}
		return nil
	},
}

// located says where in the body a decoding error is.
func located(data []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("the body is not JSON: %s: %w", place(data, int(syntax.Offset)-1), err)
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("%s cannot be %s (%s)", orBody(typ.Field), typ.Value, place(data, int(typ.Offset)-1))
	}
	return fmt.Errorf("the body is not JSON: %w", err)
}

func orBody(field string) string {
	if field == "" {
		return "the body"
	}
	return field
}

// place is line and column (in bytes) of an offset, counted from 1.
func place(data []byte, offset int) string {
	offset = max(0, min(offset, len(data)))
	line := 1 + bytes.Count(data[:offset], []byte("\n"))
	column := offset - bytes.LastIndexByte(data[:offset], '\n')
	return fmt.Sprintf("line %d, column %d", line, column)
}

// checkText refuses bytes that are not UTF-8 and escapes that are half of a surrogate pair (what Python makes of such
// bytes).
func checkText(data []byte) error {
	if !utf8.Valid(data) {
		at := 0
		for at < len(data) {
			r, n := utf8.DecodeRune(data[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return fmt.Errorf("the text is not UTF-8 (%s)", place(data, at))
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		unit, ok := escape(data[i:])
		switch {
		case !ok:
			i++ // a short escape such as \\ or \n
		case unit >= 0xD800 && unit < 0xDC00:
			low, ok := escape(data[i+6:])
			if !ok || low < 0xDC00 || low > 0xDFFF {
				return fmt.Errorf("the text is not UTF-8: half of a surrogate pair (%s)", place(data, i))
			}
			i += 11
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return fmt.Errorf("the text is not UTF-8: half of a surrogate pair (%s)", place(data, i))
		default:
			i += 5
		}
	}
	return nil
}

// escape reads \uXXXX at the beginning of data.
func escape(data []byte) (uint64, bool) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(data[2:6]), 16, 32)
	return n, err == nil
}
