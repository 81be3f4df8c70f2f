package say

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"openclaw-gateway/lazy"
)

// hidden stands where something is not shown.
const hidden = "***"

var (
	// Where a word of a name ends: apiKey, HTTPAuth.
	camel = lazy.Regexp(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)
	// Names of secrets have this anywhere, but for those of harmless.
	secretPart = lazy.Regexp(`(?i)token|passw|passphrase|passcode|secret|api[._-]?key|credential`)
	harmless   = lazy.Regexp(`(?i)tokeni[sz]|^-*(max|min|num|n)[._-]?(\w+[._-])?tokens$`)
	// Or they end in one of these words, the longer of which are written as one: AUTHKEY.
	secretEnd  = []string{"pass", "key", "auth", "authorization", "bearer", "cookie", "oauth", "creds", "cred", "jwt", "otp", "psk"}
	secretTail = lazy.Regexp(`(api|access|private|auth|master|signing|encryption|ssh|secret|pass|license)keys?$|[^m]pass$`)
	otherTail  = []string{"bypass", "trespass", "overpass", "underpass", "surpass"}
	// What comes before such a word can say that it is none.
	otherBefore = []string{"public", "pub", "no", "skip", "disable", "without"}
)

// IsSecret reports whether the name of a variable or of an option looks like that of a secret.
func IsSecret(name string) bool {
	if harmless().MatchString(name) {
		return false
	}
	if secretPart().MatchString(name) {
		return true
	}
	words := strings.FieldsFunc(strings.ToLower(camel().ReplaceAllString(name, "$1$3 $2$4")), func(r rune) bool { return r < '0' || '9' < r && r < 'a' || r > 'z' })
	if len(words) == 0 {
		return false
	}
	before, last := strings.Join(words[max(0, len(words)-2):len(words)-1], ""), words[len(words)-1]
	switch {
	case slices.Contains(otherBefore, before) || slices.Contains(otherTail, last):
		return false
	case last == "pwd": // the working directory, as a variable of its own
		return before != "" && before != "old" || strings.HasPrefix(name, "-")
	case last == "keys":
		return secretTail().MatchString(before + last)
	}
	return slices.Contains(secretEnd, last) || secretTail().MatchString(last)
}

var (
	urlScheme = lazy.Regexp(`(?i)[a-z][a-z0-9+.-]*://`)
	// Those of which the user is a name, and no token.
	sshScheme = lazy.Regexp(`(?i)^((\w+\+)?ssh|sftp|scp|rsync)://$`)
	bearer    = lazy.Regexp(`(?i)\b(bearer\s+)[^\s"']+`)
	basic     = lazy.Regexp(`(?i)\b(basic\s+)([a-z0-9+/_-]+)=*`)
	// Secrets that are known by how they begin, whatever stands before them: of OpenAI, Anthropic and others, Stripe, GitHub, GitLab, Slack,
	// Google, npm, Hugging Face, Telegram's bots, and a JSON Web Token.
	token = lazy.Regexp(`\b(?:[spr]k[-_](?:[a-z]+[-_])*[A-Za-z0-9][\w-]{15,}|gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|` +
		`AIza[\w-]{30,}|npm_\w{30,}|hf_\w{30,}|\d{6,12}:[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]+\.[\w-]*)`)
	bot = lazy.Regexp(`/bot\d{6,12}:[\w-]{30,}`)
	// The scheme, without its credentials.
	scheme = lazy.Regexp(`(?i)(?:^|[\s:])(?:bearer|basic)$`)
	// A shell's -c has options within one argument, and a process that sets its title leaves all of them in one.
	named  = lazy.Regexp(`(?:^|[\s"'(=;])(--?[\w.-]*\w)\s+|([\w.-]*\w)["']?(\s*:\s*|=)`)
	option = lazy.Regexp(`^(--?[\w.-]*\w|[\w.-]*\w:)$`)
)

// masks reports whether it is the next argument that is to be masked.
func masks(arg string) bool {
	return option().MatchString(arg) && IsSecret(strings.TrimSuffix(arg, ":")) || scheme().MatchString(arg)
}

// maskValues hides what is a secret in an argument: what stands behind a name of one, what shows who somebody is in HTTP, and
// the user of a URL.
func maskValues(arg string) string {
	arg = maskUsers(arg)
	arg = bearer().ReplaceAllString(arg, "${1}"+hidden)
	arg = token().ReplaceAllString(bot().ReplaceAllString(arg, "/bot"+hidden), hidden)
	arg = basic().ReplaceAllStringFunc(arg, func(said string) string {
		parts := basic().FindStringSubmatch(said)
		// RFC 7617: base64 of a name, a colon and a password.
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if plain, _ := encoding.DecodeString(parts[2]); strings.Contains(string(plain), ":") {
				return parts[1] + hidden
			}
		}
		return said
	})
	var b strings.Builder
	for begin := true; ; begin = false {
		at := named().FindStringSubmatchIndex(arg)
		if at == nil {
			return b.String() + arg
		}
		before, until := arg[:at[0]], " \t\r\n"
		var name string
		switch {
		case at[2] >= 0:
			name = arg[at[2]:at[3]]
		case arg[at[6]:at[7]] == "=":
			name = arg[at[4]:at[5]]
			if begin && before == "" {
				until = "" // `--token=two words` is one argument
			}
		default: // a header of HTTP, or a member of JSON
			name, until = arg[at[4]:at[5]], "\n"
			if before != "" && strings.ContainsAny(before[len(before)-1:], `"'`) {
				until += before[len(before)-1:]
			}
		}
		b.WriteString(arg[:at[1]])
		arg = arg[at[1]:]
		// A host has a port.
		if strings.HasSuffix(before, "//") || !IsSecret(name) || at[2] >= 0 && strings.HasPrefix(arg, "--") {
			continue
		}
		if value := valueOf(arg, until); value != "" {
			b.WriteString(hidden)
			arg = arg[len(value):]
		}
	}
}

// valueOf is what an argument begins with, in quotes or until one of the characters; "" for none of them is all of it.
func valueOf(arg, until string) string {
	if arg != "" && until != "" && strings.ContainsRune(`"'`, rune(arg[0])) {
		if i := strings.IndexByte(arg[1:], arg[0]); i >= 0 {
			return arg[:i+2]
		}
		return arg
	}
	if i := strings.IndexAny(arg, until); i >= 0 {
		return arg[:i]
	}
	return arg
}

// maskUsers hides the user of each URL, who often is a token, and for ssh a name.
func maskUsers(text string) string {
	var b strings.Builder
	for {
		at := urlScheme().FindStringIndex(text)
		if at == nil {
			return b.String() + text
		}
		scheme := text[at[0]:at[1]]
		b.WriteString(text[:at[1]])
		text = text[at[1]:]
		rest := text
		if i := strings.IndexAny(rest, " \t\r\n\"'<>"); i >= 0 {
			rest = rest[:i]
		}
		if user := userOf(rest); user != "" && (strings.Contains(user, ":") || !sshScheme().MatchString(scheme)) {
			b.WriteString(hidden)
			text = text[len(user):]
		}
	}
}

// userOf is the user, with the password, of a URL without its scheme.
func userOf(rest string) string {
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		return rest[:at]
	}
	_, port, found := strings.Cut(authority, ":")
	if !found || strings.HasPrefix(authority, "[") || strings.Trim(port, "0123456789") == "" {
		return ""
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		return rest[:at] // a password with a slash in it
	}
	if strings.HasSuffix(rest, "…") {
		return rest // its end was cut off
	}
	return ""
}

// URL is a URL without what may be a secret in it: a password, or the query.
func URL(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		target, _, _ = strings.Cut(target, "?")
		return maskValues(target)
	}
	u.RawQuery = ""
	if _, password := u.User.Password(); u.User != nil && !password {
		u.User = url.User("xxxxx") // a token
	}
	return u.Redacted()
}

// Masked is a text that somebody has written, a line of a log say, without what looks like a secret in it.
func Masked(text string) string { return maskValues(text) }
