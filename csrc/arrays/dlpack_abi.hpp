// dlpack_abi: the structs of DLPack's C interface, version 0 (without a version field) and version 1.
// https://dmlc.github.io/dlpack
#pragma once

#include <cstdint>

namespace fusedrop::arrays::dlpack {

enum DeviceType : std::int32_t { kCpu = 1, kCuda = 2 };
enum TypeCode : std::uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };
constexpr std::uint64_t kReadOnly = 1;

struct Device {
  std::int32_t type;
  std::int32_t id;
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: C order
  std::uint64_t byte_offset;
};

struct Managed {
  static constexpr const char* name = "dltensor";
  static constexpr const char* used_name = "used_dltensor";
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

struct Version {
  std::uint32_t major, minor;
};

struct ManagedVersioned {
  static constexpr const char* name = "dltensor_versioned";
  static constexpr const char* used_name = "used_dltensor_versioned";
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};

// The table in the capsule __dlpack_c_exchange_api__ of a class: the same exchange without Python calls. Version 1.2
// introduced it. Functions return 0, or -1 with Python's error set.
struct ExchangeApi {
  static constexpr const char* name = "dlpack_exchange_api";
  Version version;
  const ExchangeApi* older;
  // Reads the type, shape and device of the prototype. On failure it calls set_error with an exception's name and text.
  int (*allocate)(Tensor* prototype, ManagedVersioned** managed, void* context,
                  void (*set_error)(void* context, const char* kind, const char* message));
  void* managed_of;
  int (*object_of)(ManagedVersioned* managed, void** object);  // takes ownership of `managed`
  int (*view_of)(void* object, Tensor* view);  // valid as long as the object lives; the function may be null
  int (*current_stream)(std::int32_t device_type, std::int32_t device, void** stream);  // null for the CPU
};

}  // namespace fusedrop::arrays::dlpack
