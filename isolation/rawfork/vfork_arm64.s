#include "textflag.h"

// func rawVfork(number, a1, a2, a3 uintptr) (value uintptr, errno syscall.Errno)
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-48
	MOVD a1+8(FP), R0
	MOVD a2+16(FP), R1
	MOVD a3+24(FP), R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $0, R5
	MOVD number+0(FP), R8
	SVC                  // the return address stays in R30
	CMN  $4095, R0
	BCC  done
	MOVD $-1, R4
	MOVD R4, value+32(FP)
	NEG  R0, R0
	MOVD R0, errno+40(FP)
	RET
done:
	MOVD R0, value+32(FP)
	MOVD ZR, errno+40(FP)
	RET
