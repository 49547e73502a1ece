#include "textflag.h"

// func rawVfork(number, a1, a2, a3 uintptr) (value uintptr, errno syscall.Errno)
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ a1+8(FP), DI
	MOVQ a2+16(FP), SI
	MOVQ a3+24(FP), DX
	XORQ R10, R10
	XORQ R8, R8
	XORQ R9, R9
	MOVQ number+0(FP), AX
	POPQ R12             // the return address: the child returns over it
	SYSCALL
	PUSHQ R12
	CMPQ AX, $0xfffffffffffff001
	JLS  done
	MOVQ $-1, value+32(FP)
	NEGQ AX
	MOVQ AX, errno+40(FP)
	RET
done:
	MOVQ AX, value+32(FP)
	MOVQ $0, errno+40(FP)
	RET
