// Package judge says who holds an address, and what each of them is to us: the
// service manager, our launcher, its worker, an orphan, a rival, or somebody
// foreign. An orphan may be ended, so this is where proof is asked for.
package judge
