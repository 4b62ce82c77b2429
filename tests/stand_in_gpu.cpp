// Two GPUs that are the CPU: PyTorch's "cuda" devices, whose operators run the CPU's kernels on the same memory.
//
// They refuse what a GPU refuses: operators over tensors of several devices, random numbers of another device, and, while
// a graph is recorded, whatever waits for the GPU. A recorded graph is replayed on the tensors that it was recorded
// with. They count their memory, and run out of it at a limit. `stand_in_gpu.py` is what Python sees.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <torch/library.h>

#include <algorithm>
#include <functional>
#include <map>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

using at::Tensor;
using c10::Device, c10::DeviceIndex, c10::DeviceType, c10::DispatchKey, c10::IValue, c10::Storage, c10::Stream;
using torch::jit::Stack;

namespace {

constexpr DeviceIndex GPUS = 2;

Device gpu_at(DeviceIndex index) { return Device(DeviceType::CUDA, index); }

// state

DeviceIndex current = 0;
int64_t used = 0, peak = 0, limit = 0;  // bytes; no limit at 0
bool waiting_refused = false, recording = false;

struct Call {
  c10::OperatorHandle op;
  std::vector<IValue> arguments, results;
};
std::vector<std::vector<Call>> graphs;
std::map<void*, std::pair<Storage, std::string>> before_recording;  // a recording computes nothing: what it wrote goes back

Tensor keep_before(const Tensor& written) {
  if (recording && written.defined() && written.has_storage()) {
    const auto& storage = written.storage();
    const auto* bytes = static_cast<const char*>(storage.data());
    before_recording.try_emplace(storage.unsafeGetStorageImpl(), storage, std::string(bytes, storage.nbytes()));
  }
  return written;
}

void wait_for_gpu(const std::string& what) {
  TORCH_CHECK(!recording, "CUDA error: operation not permitted when stream is capturing: ", what);
  TORCH_CHECK(!waiting_refused, "called a synchronizing CUDA operation: ", what);
}

// random numbers: a generator of the CPU's, of another device

struct Generator final : c10::GeneratorImpl {
  at::Generator cpu = at::make_generator<at::CPUGeneratorImpl>(c10::default_rng_seed_val);

  explicit Generator(DeviceIndex index) : GeneratorImpl(gpu_at(index), c10::DispatchKeySet(DispatchKey::CUDA)) {}
  void set_current_seed(uint64_t seed) override { cpu.set_current_seed(seed); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return cpu.current_seed(); }
  uint64_t seed() override { return cpu.seed(); }
  void set_state(const c10::TensorImpl& state) override { cpu.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return cpu.unsafeGetGeneratorImpl()->get_state(); }
  GeneratorImpl* clone_impl() const override {
    auto* copy = new Generator(device().index());
    copy->cpu = cpu.clone();
    return copy;
  }
};

at::Generator& default_generator(DeviceIndex index) {
  static at::Generator generators[GPUS] = {at::make_generator<Generator>(0), at::make_generator<Generator>(1)};
  return generators[index < 0 ? current : index];
}

at::Generator cpu_generator(const at::Generator& generator) {
  return static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->cpu;
}

// what PyTorch asks of a device

DeviceIndex exchange(DeviceIndex index) { return std::exchange(current, index < 0 ? current : index); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device device) const override { return gpu_at(exchange(device.index())); }
  Device getDevice() const override { return gpu_at(current); }
  void setDevice(Device device) const override { exchange(device.index()); }
  void uncheckedSetDevice(Device device) const noexcept override { exchange(device.index()); }
  Stream getStream(Device device) const override { return Stream(Stream::DEFAULT, device); }
  Stream getDefaultStream(Device device) const override { return Stream(Stream::DEFAULT, device); }
  Stream exchangeStream(Stream stream) const override { return stream; }
  DeviceIndex deviceCount() const noexcept override { return GPUS; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);

struct Hooks final : at::CUDAHooksInterface {
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return GPUS; }
  DeviceIndex getCurrentDevice() const override { return current; }
  const at::Generator& getDefaultGenerator(DeviceIndex index) const override { return default_generator(index); }
  at::Generator getNewGenerator(DeviceIndex index) const override {
    return at::make_generator<Generator>(index < 0 ? current : index);
  }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(DeviceType::CPU); }
  bool isPinnedPtr(const void*) const override { return false; }
};

struct Timer final : c10d::Timer {  // of gradients that several processes add up
  explicit Timer(Device) {}
  std::optional<int64_t> measureDifference(Event start, Event end) override { return getTimeRef(end) - getTimeRef(start); }
};

// tensors of one call, on either side of it

struct Held {
  Storage cpu;
  int64_t bytes;
  ~Held() { used -= bytes; }
};

Storage on_gpu(const Storage& cpu, Device gpu) {
  const int64_t bytes = cpu.nbytes();
  if (limit && used + bytes > limit) C10_THROW_ERROR(OutOfMemoryError, "CUDA out of memory");
  peak = std::max(peak, used += bytes);
  c10::DataPtr memory(
      const_cast<void*>(cpu.data()), new Held{cpu, bytes}, [](void* held) { delete static_cast<Held*>(held); }, gpu);
  return Storage(Storage::use_byte_size_t(), bytes, std::move(memory));
}

void take_shape(const Tensor& from, const Tensor& to) {
  auto* impl = to.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(from.sizes(), from.strides(), from.storage_offset());
  if (from.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
}

class Sides {
 public:
  explicit Sides(Device device = gpu_at(0)) : device(device) {}

  Tensor cpu(const Tensor& gpu) {
    if (!gpu.defined() || !gpu.is_cuda()) return gpu;
    auto alias = std::find_if(storages.begin(), storages.end(), [&](auto& s) { return s.first.is_alias_of(gpu.storage()); });
    if (alias == storages.end()) {
      c10::DataPtr memory(const_cast<void*>(gpu.storage().data()), Device(DeviceType::CPU));
      auto* allocator = c10::GetAllocator(DeviceType::CPU);
      Storage cpu(Storage::use_byte_size_t(), gpu.storage().nbytes(), std::move(memory), allocator, /*resizable=*/true);
      alias = storages.insert(storages.end(), {gpu.storage(), cpu});
    }
    auto out = at::detail::make_tensor<c10::TensorImpl>(
        Storage(alias->second), c10::DispatchKeySet(DispatchKey::CPU), gpu.dtype());
    take_shape(gpu, out);
    tensors.emplace_back(gpu, out);
    return out;
  }

  Tensor gpu(const Tensor& cpu) {
    if (!cpu.defined()) return cpu;
    for (auto& [gpu, own] : tensors)
      if (own.is_same(cpu)) return gpu;  // written in place
    Tensor out;
    for (auto& [gpu, own] : tensors)
      if (!out.defined() && own.storage().is_alias_of(cpu.storage()))
        out = at::detail::make_tensor<c10::TensorImpl>(
            c10::TensorImpl::VIEW, Storage(gpu.storage()), gpu.key_set(), cpu.dtype());
    if (!out.defined()) {
      auto fresh = std::find_if(made.begin(), made.end(), [&](auto& s) { return s.second.is_alias_of(cpu.storage()); });
      if (fresh == made.end()) fresh = made.insert(made.end(), {on_gpu(cpu.storage(), device), cpu.storage()});
      out = at::detail::make_tensor<c10::TensorImpl>(
          Storage(fresh->first), c10::DispatchKeySet(DispatchKey::CUDA), cpu.dtype());
    }
    take_shape(cpu, out);
    return out;
  }

  // arguments that the operator resized
  void settle() {
    for (auto& [gpu, own] : tensors) {
      if (own.storage().data() != gpu.storage().data() || own.storage().nbytes() != gpu.storage().nbytes())
        gpu.unsafeGetTensorImpl()->set_storage_keep_dtype(on_gpu(own.storage(), gpu.device()));
      if (own.sizes() != gpu.sizes() || own.strides() != gpu.strides()) take_shape(own, gpu);
    }
  }

 private:
  Device device;  // of what is made
  using Pair = std::pair<Storage, Storage>;  // the GPU's, the CPU's
  std::vector<Pair> storages, made;
  std::vector<std::pair<Tensor, Tensor>> tensors;  // arguments
};

using Change = std::function<Tensor(const Tensor&)>;

IValue each_tensor(const IValue& value, const Change& change) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTensorList()) {
    std::vector<Tensor> out;
    for (const Tensor& tensor : value.toTensorVector()) out.push_back(change(tensor));
    return out;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> out;
    for (const auto& tensor : value.toOptionalTensorVector())
      out.push_back(tensor ? std::optional<Tensor>(change(*tensor)) : std::nullopt);
    return out;
  }
  return value;
}

// operators

const std::set<std::string> WAIT{"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal",
                                 "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount"};
const std::set<std::string> INDEX{"aten::index", "aten::index_put_", "aten::_index_put_impl_"};  // by indices of the CPU too

Device check(const std::string& name, const std::vector<IValue>& arguments) {
  std::set<DeviceIndex> gpus;
  bool on_cpu = false, mask = false;
  for (const auto& argument : arguments)
    each_tensor(argument, [&](const Tensor& tensor) {
      if (!tensor.defined()) return tensor;
      if (tensor.is_cuda()) gpus.insert(tensor.device().index());
      on_cpu |= tensor.is_cpu() && tensor.dim() > 0;  // a single number may come from the CPU
      mask |= !argument.isTensor() && tensor.scalar_type() == at::kBool;
      return tensor;
    });
  const bool indexing = INDEX.count(name);
  TORCH_CHECK(gpus.size() + (on_cpu && !indexing) <= 1 || gpus.empty(),
              "Expected all tensors to be on the same device, but found at least two devices (", name, ")");
  if (WAIT.count(name) || (indexing && (mask || on_cpu))) wait_for_gpu(name);
  for (const auto& argument : arguments)
    if (argument.isDevice() && argument.toDevice().is_cuda()) gpus = {argument.toDevice().index()};
  const DeviceIndex index = gpus.empty() ? -1 : *gpus.begin();
  return gpu_at(index < 0 ? current : index);
}

void run(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const auto arguments = torch::jit::last(*stack, schema.arguments().size()).vec();
  torch::jit::drop(*stack, arguments.size());
  const auto gpu = check(schema.name(), arguments);
  Sides sides(gpu);
  Stack inner;
  for (size_t n = 0; n < arguments.size(); n++) {
    const auto& argument = arguments[n];
    const bool draws = schema.arguments()[n].type()->str().find("Generator") != std::string::npos;
    if (draws && argument.isGenerator()) {
      TORCH_CHECK(argument.toGenerator().device() == gpu, "Expected a '", gpu, "' device type for generator but found '",
                  argument.toGenerator().device(), "' (", schema.name(), ")");
      inner.emplace_back(cpu_generator(argument.toGenerator()));
    } else if (draws) {
      inner.emplace_back(cpu_generator(default_generator(gpu.index())));
    } else if (argument.isDevice() && argument.toDevice().is_cuda()) {
      inner.emplace_back(Device(DeviceType::CPU));
    } else {
      inner.push_back(each_tensor(argument, [&](const Tensor& tensor) { return sides.cpu(tensor); }));
    }
  }
  for (size_t n = 0; n < arguments.size(); n++) {
    const auto* alias = schema.arguments()[n].alias_info();
    if (alias && alias->isWrite()) each_tensor(arguments[n], keep_before);
  }
  op.callBoxed(&inner);
  sides.settle();
  std::vector<IValue> results;
  for (const auto& result : inner)
    results.push_back(each_tensor(result, [&](const Tensor& tensor) { return sides.gpu(tensor); }));
  if (recording) graphs.back().push_back({op, arguments, results});
  stack->insert(stack->end(), results.begin(), results.end());
}

void on_cpu_instead(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) { run(op, stack); }

// of one device, or across both

Tensor& copy_(Tensor& self, const Tensor& source, bool non_blocking) {
  const bool crosses = self.device().type() != source.device().type();
  if (crosses && !non_blocking) wait_for_gpu("a copy between the CPU and the GPU");
  if (recording) {
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::copy_", "");
    graphs.back().push_back({op, {self, source, non_blocking}, {self}});
    keep_before(self);
  }
  Sides sides;
  sides.cpu(self).copy_(sides.cpu(source));
  return self;
}

Tensor& set_storage(Tensor& self, Storage source, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(source);
  self.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return self;
}

Tensor& set_whole_storage(Tensor& self, Storage source) {
  const int64_t count = source.nbytes() / self.dtype().itemsize();
  return set_storage(self, source, 0, {count}, {1});
}

void replay(const std::vector<Call>& calls) {
  const c10::InferenceMode inference(true);
  for (const auto& call : calls) {
    Stack stack(call.arguments.begin(), call.arguments.end());
    call.op.callBoxed(&stack);
    for (size_t n = 0; n < stack.size(); n++) {
      std::vector<Tensor> now, then;
      each_tensor(stack[n], [&](const Tensor& tensor) { return now.emplace_back(tensor); });
      each_tensor(call.results[n], [&](const Tensor& tensor) { return then.emplace_back(tensor); });
      for (size_t k = 0; k < now.size(); k++)
        if (now[k].defined() && !now[k].storage().is_alias_of(then[k].storage())) {
          Sides sides;
          sides.cpu(then[k]).copy_(sides.cpu(now[k]));
        }
    }
  }
}

}  // namespace

using c10d::TimerRegistry, c10d::RegistererTimerRegistry;
using GPUTimer = ::Timer;
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, GPUTimer);

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu_instead>()); }
TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("copy_", &copy_);
  m.impl("set_.source_Storage", &set_whole_storage);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  // else it would look for a kernel of the GPU's own
  m.impl("convolution", torch::CppFunction::makeFromBoxedFunction<&on_cpu_instead>());
  m.impl("convolution_backward", torch::CppFunction::makeFromBoxedFunction<&on_cpu_instead>());
}

// for Python

extern "C" {
void stand_in_begin() {
  auto& made_at_import = const_cast<at::CUDAHooksInterface&>(at::detail::getCUDAHooks());  // of a build without CUDA
  static_assert(sizeof(Hooks) == sizeof(at::CUDAHooksInterface));
  new (&made_at_import) Hooks();
}
int64_t stand_in_used() { return used; }
int64_t stand_in_peak() { return peak; }
void stand_in_forget_peak() { peak = used; }
void stand_in_limit(int64_t bytes) { limit = bytes; }
void stand_in_refuse_waiting(int64_t refused) { waiting_refused = refused; }
int64_t stand_in_device() { return current; }
int64_t stand_in_set_device(int64_t index) { return exchange(index); }
void stand_in_seed(uint64_t seed) { default_generator(current).set_current_seed(seed); }
void stand_in_seed_all(uint64_t seed) {
  for (DeviceIndex index = 0; index < GPUS; index++) default_generator(index).set_current_seed(seed);
}
int64_t stand_in_record() {
  recording = true;
  graphs.emplace_back();
  return graphs.size() - 1;
}
void stand_in_recorded() {
  recording = false;
  for (auto& [_, kept] : before_recording) {
    auto& [storage, bytes] = kept;
    if (storage.nbytes() == bytes.size()) bytes.copy(static_cast<char*>(storage.mutable_data()), bytes.size());
  }
  before_recording.clear();
}
void stand_in_forget(int64_t graph) { graphs[graph].clear(); }
}

TORCH_LIBRARY(stand_in, m) {
  m.def("rng_state(int index) -> Tensor", [](int64_t index) { return default_generator(index).get_state(); });
  m.def("set_rng_state(Tensor state, int index) -> ()",
        [](const Tensor& state, int64_t index) { default_generator(index).set_state(state); });
  m.def("replay(int graph) -> ()", [](int64_t graph) { replay(graphs[graph]); });
}
