"""Functions that call another one, by the shape of their parameters: what `_suggest` would compile.

Made by scripts/make_call_shapes.py.
"""
# mypy: ignore-errors
# pyright: basic

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

def shape_0(function, refuse, missing):
    def call(a0=None, **unknown):
        if unknown: refuse((a0, ), (), unknown)
        return function(a0)
    return call

def shape_1(function, refuse, missing):
    def call(a0=None, **unknown):
        if unknown or a0 is missing: refuse((a0, ), (), unknown)
        return function(a0)
    return call

def shape_2(function, refuse, missing):
    def call(a0=None, *more, k0=None, k1=None, **unknown):
        if unknown or a0 is missing: refuse((a0, k0, k1, ), more, unknown)
        return function(a0, *more, k0=k0, k1=k1)
    return call

def shape_3(function, refuse, missing):
    async def call(a0=None, *more, k0=None, k1=None, **unknown):
        if unknown or a0 is missing: refuse((a0, k0, k1, ), more, unknown)
        return await function(a0, *more, k0=k0, k1=k1)
    return call

def shape_4(function, refuse, missing):
    def call(a0=None, *more, k0=None, k1=None, k2=None, **unknown):
        if unknown or a0 is missing: refuse((a0, k0, k1, k2, ), more, unknown)
        return function(a0, *more, k0=k0, k1=k1, k2=k2)
    return call

def shape_5(function, refuse, missing):
    async def call(a0=None, *more, k0=None, k1=None, k2=None, **unknown):
        if unknown or a0 is missing: refuse((a0, k0, k1, k2, ), more, unknown)
        return await function(a0, *more, k0=k0, k1=k1, k2=k2)
    return call

def shape_6(function, refuse, missing):
    def call(a0=None, a1=None, **unknown):
        if unknown: refuse((a0, a1, ), (), unknown)
        return function(a0, a1)
    return call

def shape_7(function, refuse, missing):
    def call(a0=None, a1=None, *, k0=None, k1=None, k2=None, **unknown):
        if unknown: refuse((a0, a1, k0, k1, k2, ), (), unknown)
        return function(a0, a1, k0=k0, k1=k1, k2=k2)
    return call

def shape_8(function, refuse, missing):
    def call(a0=None, a1=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, ), (), unknown)
        return function(a0, a1)
    return call

def shape_9(function, refuse, missing):
    async def call(a0=None, a1=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, ), (), unknown)
        return await function(a0, a1)
    return call

def shape_10(function, refuse, missing):
    def call(a0=None, a1=None, *, k0=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, k0, ), (), unknown)
        return function(a0, a1, k0=k0)
    return call

def shape_11(function, refuse, missing):
    def call(a0=None, a1=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, ), (), unknown)
        return function(a0, a1)
    return call

def shape_12(function, refuse, missing):
    async def call(a0=None, a1=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, ), (), unknown)
        return await function(a0, a1)
    return call

def shape_13(function, refuse, missing):
    def call(a0=None, a1=None, *, k0=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, ), (), unknown)
        return function(a0, a1, k0=k0)
    return call

def shape_14(function, refuse, missing):
    async def call(a0=None, a1=None, *, k0=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, ), (), unknown)
        return await function(a0, a1, k0=k0)
    return call

def shape_15(function, refuse, missing):
    def call(a0=None, a1=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, k1, ), (), unknown)
        return function(a0, a1, k0=k0, k1=k1)
    return call

def shape_16(function, refuse, missing):
    async def call(a0=None, a1=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, k1, ), (), unknown)
        return await function(a0, a1, k0=k0, k1=k1)
    return call

def shape_17(function, refuse, missing):
    def call(a0=None, a1=None, *, k0=None, k1=None, k2=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, k1, k2, ), (), unknown)
        return function(a0, a1, k0=k0, k1=k1, k2=k2)
    return call

def shape_18(function, refuse, missing):
    async def call(a0=None, a1=None, *, k0=None, k1=None, k2=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, k1, k2, ), (), unknown)
        return await function(a0, a1, k0=k0, k1=k1, k2=k2)
    return call

def shape_19(function, refuse, missing):
    def call(a0=None, a1=None, *, k0=None, k1=None, k2=None, k3=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, k1, k2, k3, ), (), unknown)
        return function(a0, a1, k0=k0, k1=k1, k2=k2, k3=k3)
    return call

def shape_20(function, refuse, missing):
    async def call(a0=None, a1=None, *, k0=None, k1=None, k2=None, k3=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, k0, k1, k2, k3, ), (), unknown)
        return await function(a0, a1, k0=k0, k1=k1, k2=k2, k3=k3)
    return call

def shape_21(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, **unknown):
        if unknown: refuse((a0, a1, a2, ), (), unknown)
        return function(a0, a1, a2)
    return call

def shape_22(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, ), (), unknown)
        return function(a0, a1, a2)
    return call

def shape_23(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, ), (), unknown)
        return await function(a0, a1, a2)
    return call

def shape_24(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, *, k0=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, k0, ), (), unknown)
        return function(a0, a1, a2, k0=k0)
    return call

def shape_25(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, *, k0=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, k0, ), (), unknown)
        return await function(a0, a1, a2, k0=k0)
    return call

def shape_26(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, ), (), unknown)
        return function(a0, a1, a2)
    return call

def shape_27(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, ), (), unknown)
        return await function(a0, a1, a2)
    return call

def shape_28(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, *, k0=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, k0, ), (), unknown)
        return function(a0, a1, a2, k0=k0)
    return call

def shape_29(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, k0, k1, ), (), unknown)
        return function(a0, a1, a2, k0=k0, k1=k1)
    return call

def shape_30(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, k0, k1, ), (), unknown)
        return await function(a0, a1, a2, k0=k0, k1=k1)
    return call

def shape_31(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, k2=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, k0, k1, k2, ), (), unknown)
        return function(a0, a1, a2, k0=k0, k1=k1, k2=k2)
    return call

def shape_32(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, k2=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, k0, k1, k2, ), (), unknown)
        return await function(a0, a1, a2, k0=k0, k1=k1, k2=k2)
    return call

def shape_33(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, k2=None, k3=None, k4=None, k5=None, k6=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, k0, k1, k2, k3, k4, k5, k6, ), (), unknown)
        return function(a0, a1, a2, k0=k0, k1=k1, k2=k2, k3=k3, k4=k4, k5=k5, k6=k6)
    return call

def shape_34(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, ), (), unknown)
        return function(a0, a1, a2)
    return call

def shape_35(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, ), (), unknown)
        return await function(a0, a1, a2)
    return call

def shape_36(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, k0, k1, ), (), unknown)
        return function(a0, a1, a2, k0=k0, k1=k1)
    return call

def shape_37(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, k0, k1, ), (), unknown)
        return await function(a0, a1, a2, k0=k0, k1=k1)
    return call

def shape_38(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, *, k0=None, k1=None, k2=None, k3=None, k4=None, k5=None, k6=None, k7=None, k8=None, k9=None, k10=None, k11=None, k12=None, k13=None, k14=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, ), (), unknown)
        return function(a0, a1, a2, k0=k0, k1=k1, k2=k2, k3=k3, k4=k4, k5=k5, k6=k6, k7=k7, k8=k8, k9=k9, k10=k10, k11=k11, k12=k12, k13=k13, k14=k14)
    return call

def shape_39(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown: refuse((a0, a1, a2, a3, ), (), unknown)
        return function(a0, a1, a2, a3)
    return call

def shape_40(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, ), (), unknown)
        return function(a0, a1, a2, a3)
    return call

def shape_41(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, ), (), unknown)
        return await function(a0, a1, a2, a3)
    return call

def shape_42(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, *, k0=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, k0, ), (), unknown)
        return function(a0, a1, a2, a3, k0=k0)
    return call

def shape_43(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, *, k0=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, k0, ), (), unknown)
        return await function(a0, a1, a2, a3, k0=k0)
    return call

def shape_44(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, ), (), unknown)
        return function(a0, a1, a2, a3)
    return call

def shape_45(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, ), (), unknown)
        return await function(a0, a1, a2, a3)
    return call

def shape_46(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, ), (), unknown)
        return function(a0, a1, a2, a3)
    return call

def shape_47(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, ), (), unknown)
        return await function(a0, a1, a2, a3)
    return call

def shape_48(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, *, k0=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, k0, ), (), unknown)
        return function(a0, a1, a2, a3, k0=k0)
    return call

def shape_49(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, k0, k1, ), (), unknown)
        return function(a0, a1, a2, a3, k0=k0, k1=k1)
    return call

def shape_50(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, k0, k1, ), (), unknown)
        return await function(a0, a1, a2, a3, k0=k0, k1=k1)
    return call

def shape_51(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing or a3 is missing: refuse((a0, a1, a2, a3, ), (), unknown)
        return function(a0, a1, a2, a3)
    return call

def shape_52(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, *, k0=None, k1=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing or a3 is missing: refuse((a0, a1, a2, a3, k0, k1, ), (), unknown)
        return function(a0, a1, a2, a3, k0=k0, k1=k1)
    return call

def shape_53(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return function(a0, a1, a2, a3, a4)
    return call

def shape_54(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return function(a0, a1, a2, a3, a4)
    return call

def shape_55(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, *, k0=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, a4, k0, ), (), unknown)
        return function(a0, a1, a2, a3, a4, k0=k0)
    return call

def shape_56(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return function(a0, a1, a2, a3, a4)
    return call

def shape_57(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return await function(a0, a1, a2, a3, a4)
    return call

def shape_58(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return function(a0, a1, a2, a3, a4)
    return call

def shape_59(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return await function(a0, a1, a2, a3, a4)
    return call

def shape_60(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, *, k0=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, a4, k0, ), (), unknown)
        return function(a0, a1, a2, a3, a4, k0=k0)
    return call

def shape_61(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing or a3 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return function(a0, a1, a2, a3, a4)
    return call

def shape_62(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing or a3 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return await function(a0, a1, a2, a3, a4)
    return call

def shape_63(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing or a3 is missing or a4 is missing: refuse((a0, a1, a2, a3, a4, ), (), unknown)
        return function(a0, a1, a2, a3, a4)
    return call

def shape_64(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, a4, a5, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5)
    return call

def shape_65(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, a4, a5, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5)
    return call

def shape_66(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, a4, a5, ), (), unknown)
        return await function(a0, a1, a2, a3, a4, a5)
    return call

def shape_67(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, a4, a5, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5)
    return call

def shape_68(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing or a3 is missing or a4 is missing or a5 is missing: refuse((a0, a1, a2, a3, a4, a5, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5)
    return call

def shape_69(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, a6=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, a4, a5, a6, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5, a6)
    return call

def shape_70(function, refuse, missing):
    async def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, a6=None, **unknown):
        if unknown or a0 is missing: refuse((a0, a1, a2, a3, a4, a5, a6, ), (), unknown)
        return await function(a0, a1, a2, a3, a4, a5, a6)
    return call

def shape_71(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, a6=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, a4, a5, a6, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5, a6)
    return call

def shape_72(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, a6=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, a4, a5, a6, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5, a6)
    return call

def shape_73(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, a6=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing or a3 is missing or a4 is missing or a5 is missing: refuse((a0, a1, a2, a3, a4, a5, a6, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5, a6)
    return call

def shape_74(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, a6=None, a7=None, **unknown):
        if unknown or a0 is missing or a1 is missing: refuse((a0, a1, a2, a3, a4, a5, a6, a7, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5, a6, a7)
    return call

def shape_75(function, refuse, missing):
    def call(a0=None, a1=None, a2=None, a3=None, a4=None, a5=None, a6=None, a7=None, **unknown):
        if unknown or a0 is missing or a1 is missing or a2 is missing: refuse((a0, a1, a2, a3, a4, a5, a6, a7, ), (), unknown)
        return function(a0, a1, a2, a3, a4, a5, a6, a7)
    return call

SHAPES: dict[tuple[int, int, int, tuple[bool, ...], bool, bool], Callable[..., Any]] = {
    (0, 1, 0, (), False, False): shape_0,
    (0, 1, 1, (), False, False): shape_1,
    (0, 1, 1, (False, False), True, False): shape_2,
    (0, 1, 1, (False, False), True, True): shape_3,
    (0, 1, 1, (False, False, False), True, False): shape_4,
    (0, 1, 1, (False, False, False), True, True): shape_5,
    (0, 2, 0, (), False, False): shape_6,
    (0, 2, 0, (False, False, False), False, False): shape_7,
    (0, 2, 1, (), False, False): shape_8,
    (0, 2, 1, (), False, True): shape_9,
    (0, 2, 1, (False,), False, False): shape_10,
    (0, 2, 2, (), False, False): shape_11,
    (0, 2, 2, (), False, True): shape_12,
    (0, 2, 2, (False,), False, False): shape_13,
    (0, 2, 2, (False,), False, True): shape_14,
    (0, 2, 2, (False, False), False, False): shape_15,
    (0, 2, 2, (False, False), False, True): shape_16,
    (0, 2, 2, (False, False, False), False, False): shape_17,
    (0, 2, 2, (False, False, False), False, True): shape_18,
    (0, 2, 2, (False, False, False, False), False, False): shape_19,
    (0, 2, 2, (False, False, False, False), False, True): shape_20,
    (0, 3, 0, (), False, False): shape_21,
    (0, 3, 1, (), False, False): shape_22,
    (0, 3, 1, (), False, True): shape_23,
    (0, 3, 1, (False,), False, False): shape_24,
    (0, 3, 1, (False,), False, True): shape_25,
    (0, 3, 2, (), False, False): shape_26,
    (0, 3, 2, (), False, True): shape_27,
    (0, 3, 2, (False,), False, False): shape_28,
    (0, 3, 2, (False, False), False, False): shape_29,
    (0, 3, 2, (False, False), False, True): shape_30,
    (0, 3, 2, (False, False, False), False, False): shape_31,
    (0, 3, 2, (False, False, False), False, True): shape_32,
    (0, 3, 2, (False, False, False, False, False, False, False), False, False): shape_33,
    (0, 3, 3, (), False, False): shape_34,
    (0, 3, 3, (), False, True): shape_35,
    (0, 3, 3, (False, False), False, False): shape_36,
    (0, 3, 3, (False, False), False, True): shape_37,
    (0, 3, 3, (False, False, False, False, False, False, False, False, False, False, False, False, False, False, False), False, False): shape_38,
    (0, 4, 0, (), False, False): shape_39,
    (0, 4, 1, (), False, False): shape_40,
    (0, 4, 1, (), False, True): shape_41,
    (0, 4, 1, (False,), False, False): shape_42,
    (0, 4, 1, (False,), False, True): shape_43,
    (0, 4, 2, (), False, False): shape_44,
    (0, 4, 2, (), False, True): shape_45,
    (0, 4, 3, (), False, False): shape_46,
    (0, 4, 3, (), False, True): shape_47,
    (0, 4, 3, (False,), False, False): shape_48,
    (0, 4, 3, (False, False), False, False): shape_49,
    (0, 4, 3, (False, False), False, True): shape_50,
    (0, 4, 4, (), False, False): shape_51,
    (0, 4, 4, (False, False), False, False): shape_52,
    (0, 5, 0, (), False, False): shape_53,
    (0, 5, 1, (), False, False): shape_54,
    (0, 5, 1, (False,), False, False): shape_55,
    (0, 5, 2, (), False, False): shape_56,
    (0, 5, 2, (), False, True): shape_57,
    (0, 5, 3, (), False, False): shape_58,
    (0, 5, 3, (), False, True): shape_59,
    (0, 5, 3, (False,), False, False): shape_60,
    (0, 5, 4, (), False, False): shape_61,
    (0, 5, 4, (), False, True): shape_62,
    (0, 5, 5, (), False, False): shape_63,
    (0, 6, 1, (), False, False): shape_64,
    (0, 6, 2, (), False, False): shape_65,
    (0, 6, 2, (), False, True): shape_66,
    (0, 6, 3, (), False, False): shape_67,
    (0, 6, 6, (), False, False): shape_68,
    (0, 7, 1, (), False, False): shape_69,
    (0, 7, 1, (), False, True): shape_70,
    (0, 7, 2, (), False, False): shape_71,
    (0, 7, 3, (), False, False): shape_72,
    (0, 7, 6, (), False, False): shape_73,
    (0, 8, 2, (), False, False): shape_74,
    (0, 8, 3, (), False, False): shape_75,
}
