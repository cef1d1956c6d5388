// Lets a build of torch without CUDA make fake CUDA tensors and run autograd over them. There is one device, which does
// nothing: no kernel is ever launched on it.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr c10::DeviceType DEVICE_TYPE = c10::DeviceType::CUDA;

c10::Device the_device() {
  return c10::Device(DEVICE_TYPE, 0);
}

c10::Stream the_stream() {
  return c10::Stream(c10::Stream::DEFAULT, the_device());
}

struct IdleGuard final : c10::impl::NoOpDeviceGuardImpl<DEVICE_TYPE> {
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Device getDevice() const override { return the_device(); }
  c10::Device exchangeDevice(c10::Device) const override { return the_device(); }
  c10::Stream getStream(c10::Device) const noexcept override { return the_stream(); }
  c10::Stream getDefaultStream(c10::Device) const noexcept override { return the_stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return the_stream(); }
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

// torch looks for hooks by this name.
struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};

} // namespace

C10_REGISTER_GUARD_IMPL(CUDA, IdleGuard)

namespace at {
using ::CUDAHooks;
REGISTER_CUDA_HOOKS(CUDAHooks)
} // namespace at
