// Package openclawgateway holds what lies at the root of the repository and is needed in the program: embedding does not
// reach upwards, so the file is embedded where it stands.
package openclawgateway

import _ "embed"

// ConfigExample is config.example.yaml.
//
//go:embed config.example.yaml
var ConfigExample []byte
