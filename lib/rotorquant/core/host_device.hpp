#pragma once
// Marks a function that a CPU and a GPU share.
#ifdef __CUDACC__
#define ROTORQUANT_HOST_DEVICE __host__ __device__
#else
#define ROTORQUANT_HOST_DEVICE
#endif
