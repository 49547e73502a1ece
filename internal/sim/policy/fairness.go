package policy

import "math"

// claim is what somebody may have of something that is shared out.
type claim struct {
	weight     float64
	floor, cap float64
}

// fairShares divides total among claims in proportion to their weights, but gives
// nobody more than its cap or, while there is enough, less than its floor: the
// weighted max-min fair division.
func fairShares(total float64, claims []claim) []float64 {
	at := func(c *claim, level float64) float64 { return min(c.cap, max(min(c.floor, c.cap), level*c.weight)) }
	sum := func(level float64) (s float64) {
		for i := range claims {
			s += at(&claims[i], level)
		}
		return s
	}
	high := 1.0
	for sum(high) < total && high < 1e12 {
		high *= 2
	}
	low := 0.0
	for range 60 {
		if middle := (low + high) / 2; sum(middle) < total {
			low = middle
		} else {
			high = middle
		}
	}
	out := make([]float64, len(claims))
	for i := range claims {
		out[i] = at(&claims[i], high)
	}
	return out
}

// jain is Jain's index of fairness: 1 if all are equal, 1/n if one has all.
func jain(xs []float64) float64 {
	var sum, squares float64
	for _, x := range xs {
		sum += x
		squares += x * x
	}
	if squares == 0 {
		return 1
	}
	return sum * sum / (float64(len(xs)) * squares)
}

// contested is the least fair share that a sample is judged by: below it, one task
// more or less is all the difference.
const contested = 1e-9

// fairness is Jain's index of shares in relation to what is fair, of those who are
// entitled to something; false if there are not two of them.
func fairness(shares, fair []float64) (float64, bool) {
	var ratios []float64
	for i, f := range fair {
		if f > contested {
			ratios = append(ratios, shares[i]/f)
		}
	}
	if len(ratios) < 2 {
		return 0, false
	}
	return jain(ratios), true
}

// average is a mean that is being taken.
type average struct {
	sum float64
	n   int
}

func (a *average) add(v float64) {
	a.sum += v
	a.n++
}

func (a *average) value() float64 {
	if a.n == 0 {
		return math.NaN()
	}
	return a.sum / float64(a.n)
}
