package images

const crashVariable = "CLUSTERD_IMAGES_CRASH"

func crashMain(string) {}
