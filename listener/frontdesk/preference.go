package frontdesk

import (
	"mime"
	"strconv"
	"strings"
)

// preference is what an Accept header says of one media type.
type preference struct {
	quality     float64 // 0: not wanted
	specificity int     // 0: not named, 1: */*, 2: type/*, 3: type/subtype
	position    int     // of the range in the header, from 0
}

// prefersJSON reports whether an Accept header prefers application/json to
// text/plain (RFC 9110 section 12.5.1). Of two that are equally wanted, the one
// that was named more exactly wins, then the one named first, then text.
func prefersJSON(accept string) bool {
	ranges := strings.Split(accept, ",")
	json, text := prefer(ranges, "application", "json"), prefer(ranges, "text", "plain")
	switch {
	case json.quality != text.quality:
		return json.quality > text.quality
	case json.quality == 0:
		return false
	case json.specificity != text.specificity:
		return json.specificity > text.specificity
	default:
		return json.position < text.position
	}
}

// prefer finds the most exact range that fits; the first of equal ones.
func prefer(ranges []string, kind, subtype string) (found preference) {
	for position, entry := range ranges {
		name, parameters, err := mime.ParseMediaType(entry)
		if err != nil {
			continue
		}
		specificity := 0
		switch name {
		case kind + "/" + subtype:
			specificity = 3
		case kind + "/*":
			specificity = 2
		case "*/*":
			specificity = 1
		}
		if specificity <= found.specificity {
			continue
		}
		quality := 1.0
		if q, ok := parameters["q"]; ok {
			if quality, err = strconv.ParseFloat(q, 64); err != nil {
				continue
			}
		}
		found = preference{quality, specificity, position}
	}
	return found
}
