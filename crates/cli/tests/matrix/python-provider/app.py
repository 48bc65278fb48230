from componentize_py_types import Err
import wit_world.exports


class Echo(wit_world.exports.Echo):
    def scalars_of(self, v): return v
    def truth(self, v): return v
    def unsigned(self, v): return v
    def signed(self, v): return v
    def single(self, v): return v
    def double(self, v): return v
    def letter(self, v): return v
    def text(self, v): return v
    def bytes(self, v): return v
    def nested(self, v): return v
    def pair(self, v): return v
    def people(self, v): return v
    def shape_of(self, v): return v
    def colour_of(self, v): return v
    def perms_of(self, v): return v
    def maybe(self, v): return v

    def outcome(self, fails, number, reason):
        if fails:
            raise Err(reason)
        return number
