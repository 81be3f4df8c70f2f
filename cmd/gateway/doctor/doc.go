// Package doctor looks for everything that has gone wrong for others: gather looks
// at the machine, once, and Examine judges what was found, with one check for each
// kind of finding. A check sees nothing but the facts, so that a test can bring about
// what a machine cannot be given, such as an old kernel.
package doctor
