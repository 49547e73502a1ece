package wire

// DecodeCommand reads a CommandInfo.
func DecodeCommand(b []byte) (*Command, error) { return decodeCommand(b, nil) }
