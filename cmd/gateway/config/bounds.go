package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// What a configuration may hold, beside [read.ConfigLimit]: whoever reads one must not run out of time or memory whatever it
// is. The parser makes some 300 bytes of a word, and root reads other users' configurations.
const (
	// partsLimit is how many lines, keys and entries a file may have: config.example.yaml has 250.
	partsLimit = 50_000
	// valueLimit is for all entries of a list, in bytes: the kernel's limit for all arguments and variables of a program
	// (execve(2)), as [entryLimit] is for one of them.
	valueLimit = 6 << 20
	// problemsLimit is how many mistakes are told: nobody mends more at once. messageLimit is in bytes, for one of them.
	problemsLimit = 100
	messageLimit  = 2000
	// shownLimit is how much is shown of an unknown key, in bytes.
	shownLimit = 100
)

// entriesLimits are how many entries a list may have; one that is not here is a list of as many as an environment.
var entriesLimits = map[string]int{"listen": 64, "restart.fatal_exit_codes": 255}

func entriesOf(key string) int {
	if most, ok := entriesLimits[key]; ok {
		return most
	}
	return variablesLimit
}

// tooManyParts says on which line a file has become one of too many parts; 0: on none. It counts what begins one in YAML,
// and here and there what does not: the parser would need the memory first.
func tooManyParts(content []byte) (line int) {
	line = 1
	parts := 0
	for i, c := range content {
		switch c {
		case '\n':
			line++
			parts++
		case '\r', ',', '[', '{':
			parts++
		case '-', '?', ':':
			// Followed by a blank, or in UTF-16 by whatever is behind its other half.
			if i+1 == len(content) || content[i+1] <= ' ' {
				parts++
			}
		}
		if parts > partsLimit {
			return line
		}
	}
	return 0
}

// sizeMistake says what is wrong with the size of a value of a known key. The line is that of the entry of a list, or 0.
func sizeMistake(key string, node *yaml.Node) (line int, mistake string) {
	if node.Kind == yaml.ScalarNode && len(node.Value) > entryLimit {
		return 0, "is longer than 128 KiB: no program can be told so much at once"
	}
	if most := entriesOf(key); len(node.Content) > most {
		return node.Content[most].Line, fmt.Sprintf("has %d entries: at most %d are possible", len(node.Content), most)
	}
	all := 0
	for i, entry := range node.Content {
		length := len(resolve(entry).Value)
		if all += length; length > entryLimit {
			return entry.Line, fmt.Sprintf("entry %d is longer than 128 KiB, the longest argument or variable that the kernel takes", i+1)
		} else if all > valueLimit {
			return entry.Line, "is longer than 6 MiB together, which is all that the kernel takes"
		}
	}
	return 0, ""
}
