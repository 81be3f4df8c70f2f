// Package config reads the configuration of the gateway: a YAML file, overridden by GATEWAY_… variables of the
// environment. It is the only package that knows viper, and the rest of the program sees a typed [Config] that has
// been checked to the last key.
//
// It is strict, because a mistake that passes here is found at two in the morning: unknown and repeated keys, values of
// the wrong type, numbers without a unit and impossible combinations are all errors. All of them are reported at once,
// each with its file, line and key (see [Errors]).
//
// The way of a value: the file is parsed into YAML nodes, which know their lines (file.go); variables become such nodes
// as well (variable.go); viper puts them above the defaults and decodes them, through one strict hook (load.go,
// decode.go); what no type can say is checked by hand (validate.go).
package config
