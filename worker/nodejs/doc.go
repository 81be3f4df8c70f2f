// Package nodejs has a Node.js load scripts of the launcher's before its program.
package nodejs
