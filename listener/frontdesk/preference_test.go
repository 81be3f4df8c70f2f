package frontdesk

import "testing"

func TestPrefersJSON(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"":                                     false,
		"*/*":                                  false,
		"application/json":                     true,
		"Application/JSON; charset=utf-8":      true,
		"application/*":                        true,
		"text/plain":                           false,
		"text/*":                               false,
		"application/json, text/plain, */*":    true, // axios
		"text/plain, application/json":         false,
		"application/json, */*;q=0.5":          true, // HTTPie
		"application/json, */*":                true,
		"*/*, application/json":                true,
		"application/json;q=0.5, */*":          false,
		"application/json;q=0.5, */*;q=0.1":    true,
		"text/plain;q=0.9, application/json":   true,
		"text/plain, application/json;q=0.9":   false,
		"application/json;q=0":                 false,
		"application/json;q=0, text/plain;q=0": false,
		"*/*;q=0.5, text/plain;q=0":            true,
		"application/*, application/json;q=0":  false,
		"application/jsonp, application/xml":   false,
		"application/json;q=none, text/plain":  false,
		"application/json;q=NaN":               false,
		",;, application/json ,":               true,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8": false, // a browser
	} {
		if got := prefersJSON(accept); got != want {
			t.Errorf("%q prefers JSON: %t", accept, got)
		}
	}
}
