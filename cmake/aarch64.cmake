# Toolchain of the compile check for 64-bit ARM: Debian's cross compiler, no
# libraries. Headers of the dependencies come through NRES_CROSS_INCLUDES.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
