package screen

import "testing"

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                "plain",
		"tab\tbetween":                         "tab\tbetween",
		"\x1b[31mred\x1b[0m":                   "\x1b[31mred\x1b[0m\x1b[0m",
		"\x1b[38:2::1:2:3mred":                 "\x1b[38:2::1:2:3mred\x1b[0m",
		"up\x1b[3A and clear\x1b[2J":           "up and clear",
		"\x1b[?1049hfull":                      "full",
		"\x1b]0;title\x07text":                 "text",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\a": "link",
		"\x1bPstring\x1b\\after":               "after",
		"charset\x1b(0 end\x1bc":               "charset end",
		"10%\r50%\r100%":                       "100%",
		"dos\r":                                "dos",
		"bell\a back\b":                        "bell back",
		"cut\x1b[3":                            "cut",
		"cut\x1b]0;ti":                         "cut",
		"cut\x1b":                              "cut",
		"héllo 世界 🙂":                           "héllo 世界 🙂",
		"c1 \u009b3A":                          "c1 3A",
		"bad \xff utf8":                        "bad \ufffd utf8",
		"\x1b[>4;2m private":                   " private",
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) is %q, want %q", in, got, want)
		}
	}
}
