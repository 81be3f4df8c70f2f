// Package why says what the end of a worker that was not told to end means, and which line to change: from how it ended, and
// from what was seen of it. Where nothing can be said it says nothing; what it only supposes it calls so.
package why
