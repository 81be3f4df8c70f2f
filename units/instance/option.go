package instance

// Option is --name of a command line: it is what flag and pflag call a Value.
type Option struct {
	Name  *Name
	Given *bool // nil where that does not matter
}

// Set takes a name as Parse does.
func (o Option) Set(text string) (err error) {
	if o.Given != nil {
		*o.Given = true
	}
	*o.Name, err = Parse(text)
	return err
}

// Type is how the help writes it.
func (o Option) Type() string { return "NAME" }

// String is what stands in the help for the default: nothing.
func (o Option) String() string {
	if o.Name == nil {
		return ""
	}
	return string(*o.Name)
}
