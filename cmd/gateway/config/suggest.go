package config

import (
	"fmt"
	"slices"
	"strings"
)

// suggestion names the known key that was probably meant, with words to append, or is "".
func suggestion(unknown string) string {
	known := append(keys(), sections()...)
	name := unknown[strings.LastIndex(unknown, ".")+1:]
	var elsewhere []string
	for _, key := range known {
		if strings.HasSuffix(key, "."+name) || key == name {
			elsewhere = append(elsewhere, key)
		}
	}
	if len(elsewhere) > 0 {
		return fmt.Sprintf(": did you mean %s? (check the indentation)", strings.Join(elsewhere, " or "))
	}
	nearest := slices.MinFunc(known, func(a, b string) int { return distance(unknown, a) - distance(unknown, b) })
	if distance(unknown, nearest) <= max(2, len(nearest)/4) {
		return ": did you mean " + nearest + "?"
	}
	return ": config.example.yaml shows all that there are"
}

// distance counts the single bytes to insert, delete or replace that turn a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
