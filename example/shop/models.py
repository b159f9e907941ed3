"""Customers order products. The code is ahead of the database, as after a deploy."""

from __future__ import annotations

from django.db import models


class Product(models.Model):
    """A product for sale."""

    sku = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return self.name


class Customer(models.Model):
    name = models.CharField(max_length=200)
    email = models.EmailField(unique=True)
    phone = models.CharField(max_length=40, blank=True, default="")

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """An order of a customer."""

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT)
    placed_at = models.DateTimeField()
    abandoned = models.BooleanField(default=False)
    total = models.DecimalField(max_digits=10, decimal_places=2, null=True)

    class Meta:
        indexes = (models.Index(fields=("placed_at",), name="shop_order_placed_at"),)

    def __str__(self) -> str:
        return f"Order {self.pk}"


class OrderLine(models.Model):
    """A quantity of one product."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.quantity} of {self.product}"
