// Package bench measures the launcher side by side with what people use instead, and writes docs/bench.md and
// docs/bench.svg. "make bench" runs it; the measurements are Go benchmarks, so that "make test" compiles and vets them and
// does not run them.
//
// Each measurement is a file, boots a machine of its own (test/machine), and takes its turns with all contestants: so what
// else the computer does meets all of them. Every figure of the report is taken in the run that writes it. A contestant
// that is not there, or fails, stands in the report with the reason.
package bench
