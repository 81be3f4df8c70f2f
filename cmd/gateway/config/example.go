package config

import openclawgateway "openclaw-gateway"

// Example is config.example.yaml: every key with its default and what it is for. Do not change it.
var Example = openclawgateway.ConfigExample
