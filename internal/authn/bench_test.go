package authn

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkAuthenticate says what a request costs that is let in.
func BenchmarkAuthenticate(b *testing.B) {
	basic := basicFor(b, `{"credentials":[{"principal":"p","secret":"p"},{"principal":"h","secret":"`+hashOf(b, "2a", "s")+`"}]}`)
	tokens := must(NewExecutorTokens([]byte("k"), 0))
	rsa := pairs()["RSA"]
	claims := jwt.MapClaims{"sub": "u", "exp": in(time.Hour)}
	for _, row := range []struct {
		name   string
		a      Authenticator
		header string
	}{
		{"plain", basic, showing("p", "p")},
		{"hash that is remembered", basic, showing("h", "s")},
		{"executor", tokens.Authenticator(), "Bearer " + must(tokens.New("f", "e", "c"))},
		{"user, HMAC", users(b, userSecret, UserTokens{}), "Bearer " + tokenOf(b, jwt.SigningMethodHS256, []byte(userSecret), claims, "")},
		{"user, RSA", users(b, rsa.pem, UserTokens{}), "Bearer " + tokenOf(b, rsa.method, rsa.private, claims, "")},
	} {
		b.Run(row.name, func(b *testing.B) {
			r := request(b, row.header)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := row.a.Authenticate(r, MasterReadonly); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
