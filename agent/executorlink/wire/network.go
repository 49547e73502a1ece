package wire

import (
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// networkInfo encodes the NetworkInfo of a task that has addresses, IPv4 before IPv6: what
// its ContainerInfo says of its first network, with these addresses
// (src/docker/executor.cpp). As there only the protocol of IPv6 is named.
func networkInfo(container []byte, addresses []string) []byte {
	b := firstNetwork(container)
	for _, v6 := range [...]bool{false, true} {
		for _, ip := range addresses {
			if strings.Contains(ip, ":") != v6 {
				continue
			}
			var address []byte
			if v6 {
				address = appendVarint(address, 1, ipv6)
			}
			b = appendBytes(b, 5, appendString(address, 2, ip))
		}
	}
	return b
}

// firstNetwork is the first of ContainerInfo.network_infos, without its addresses; nil if
// there is none.
func firstNetwork(container []byte) []byte {
	for len(container) > 0 {
		number, typ, n := protowire.ConsumeTag(container)
		if n < 0 {
			return nil
		}
		m := protowire.ConsumeFieldValue(number, typ, container[n:])
		if m < 0 {
			return nil
		}
		if number != 7 || typ != protowire.BytesType {
			container = container[n+m:]
			continue
		}
		network, _ := protowire.ConsumeBytes(container[n:])
		return withoutField(network, 5)
	}
	return nil
}

// withoutField copies a message without a field.
func withoutField(b []byte, field protowire.Number) []byte {
	var kept []byte
	for len(b) > 0 {
		number, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return kept
		}
		if number != field {
			kept = append(kept, b[:n]...)
		}
		b = b[n:]
	}
	return kept
}
