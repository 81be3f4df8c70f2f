// Package logging makes the log in the forms of log.format, of which one writes to the journal with a field for each
// attribute.
package logging
