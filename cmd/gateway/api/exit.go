package api

// ExitCodes are what all commands end with.
var ExitCodes = []struct{ Status, Means string }{
	{"0", "it is done, or all is well. status: the worker serves, is starting, or waits for a first client; doctor: nothing was found; " +
		"reclaim: the address is free, or held by what is ours; config check: valid"},
	{"1", "it could not be done, or something is wrong: the reason is printed. restart, reload: the worker did not become ready; doctor: something was found"},
	{"2", "doctor: nothing was found, and something without which nobody can tell that all is well could not be looked at; other things that it lists as not looked at leave it 0"},
	{"3", "status, metrics: the launcher is not running, and nobody will start it"},
	{"64", "the command line is wrong (EX_USAGE)"},
	{"75", "run: the worker was stopped because nobody was connected (worker.idle_stop, EX_TEMPFAIL); systemd starts it again for the next client"},
}
