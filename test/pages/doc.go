// Package pages holds the pages for people, README.md and those in docs, to what no other test of them looks at.
package pages
